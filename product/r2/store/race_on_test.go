//go:build race

package store_test

// manyParts are fewer where everything takes ten times as long.
const manyParts = 1000
