// Package cache is being built.
package cache
