package certs

import "time"

// KeyPairsHeld returns how many key pairs are in memory.
func (c *Certs) KeyPairsHeld() int { return c.ring.held() }

// Backoff returns how long a pack waits after so many failures in a row.
func Backoff(failures int, cause error) time.Duration { return backoff(failures, cause) }
