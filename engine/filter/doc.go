// Package filter is being built.
package filter
