// Package selvage is the root of the module: it holds only the tests that keep the house in shape.
package selvage
