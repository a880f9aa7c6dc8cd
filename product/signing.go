package product

import "selvage/spec"

// SigningKey is an API token for protocols in which clients sign requests instead of sending a secret,
// as S3's do. Whoever gets one has to compare a signature before believing anything. Immutable.
type SigningKey struct {
	Secret   string // hex SHA-256 of the token's secret, which only its holder and this node can know
	Actor    spec.Actor
	Accounts []string // IDs of those that its owner can reach

	// Allowed tells whether it has p on an account, or on one bucket of it if that is not empty.
	Allowed func(p Permission, accountID, bucket string) bool
	// Denied tells whether a policy takes p away there, whatever others grant.
	Denied func(p Permission, accountID, bucket string) bool
}
