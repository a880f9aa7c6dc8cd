// Package pebble pins the version of Let's Encrypt's ACME test server that the tests build and run
// (go -C clients/pebble tool pebble). It is a module of its
// own so that what Pebble depends on stays out of the main one.
package pebble
