package certs

// KeyPairsHeld returns how many key pairs are in memory.
func (c *Certs) KeyPairsHeld() int { return c.ring.held() }
