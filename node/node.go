// Package node builds a node out of the products, starts it, drains it and hands it over.
package node
