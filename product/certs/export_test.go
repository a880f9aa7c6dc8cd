package certs

import "time"

// KeyPairsHeld returns how many key pairs are in memory.
func (c *Certs) KeyPairsHeld() int { return c.ring.held() }

// Backoff returns how long a pack waits after so many failures in a row.
func Backoff(failures int, cause error) time.Duration { return backoff(failures, cause) }

// AskNow has the ACME server asked at once when it wants a certificate renewed.
func (c *Certs) AskNow(id string) {
	c.orders.mu.Lock()
	c.orders.ask[id] = c.clock.Now()
	c.orders.mu.Unlock()
	c.orders.wakeUp()
}
