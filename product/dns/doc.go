// Package dns is being built.
package dns
