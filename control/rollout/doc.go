// Package rollout is being built.
package rollout
