// Package cli is being built.
package cli
