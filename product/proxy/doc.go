// Package proxy is being built.
package proxy
