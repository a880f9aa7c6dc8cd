package s3

import (
	"crypto/hmac"
	"crypto/sha256"
	"sync"
)

// cachedKeys bounds the keys remembered: a few hundred bytes each.
const cachedKeys = 4096

// keyCache remembers signing keys, which hold for a day: deriving one takes four HMACs. The zero
// value is ready.
type keyCache struct {
	mu   sync.RWMutex // guards the field below
	keys map[keyOf][sha256.Size]byte
}

type keyOf struct{ secret, day, region string }

// signingKey derives the key of a day and region.
func (c *keyCache) signingKey(secret, day, region string) [sha256.Size]byte {
	of := keyOf{secret, day, region}
	c.mu.RLock()
	key, ok := c.keys[of]
	c.mu.RUnlock()
	if ok {
		return key
	}
	key = hmacSHA256([]byte("AWS4"+secret), []byte(day))
	for _, part := range []string{region, "s3", terminator} {
		key = hmacSHA256(key[:], []byte(part))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= cachedKeys {
		c.keys = map[keyOf][sha256.Size]byte{}
	}
	c.keys[of] = key
	return key
}

func hmacSHA256(key, data []byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, key)
	m.Write(data)
	m.Sum(sum[:0])
	return sum
}
