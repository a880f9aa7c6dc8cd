// Package state is being built.
package state
