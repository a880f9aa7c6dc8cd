package cache

import (
	"sync"
	"time"

	"selvage/product/cache/storage"
)

const (
	// hopelessFor is how long requests for a key do not wait for each other after its response could
	// not be stored.
	hopelessFor = 30 * time.Second

	maxHopeless = 32768
)

// hopeless remembers keys whose last response could not be shared, so that requests for them go to
// the origin side by side. Safe for concurrent use.
type hopeless struct {
	mu    sync.RWMutex // guards the field below
	until map[storage.Key]time.Time
}

func (h *hopeless) has(key storage.Key, now time.Time) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	until, ok := h.until[key]
	return ok && now.Before(until)
}

func (h *hopeless) add(key storage.Key, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.until) >= maxHopeless || h.until == nil {
		// Forgetting all costs each of them one wait.
		h.until = map[storage.Key]time.Time{}
	}
	h.until[key] = now.Add(hopelessFor)
}

func (h *hopeless) clear(key storage.Key) {
	h.mu.RLock()
	_, there := h.until[key]
	h.mu.RUnlock()
	if !there {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.until, key)
}
