// Package certs is being built.
package certs
