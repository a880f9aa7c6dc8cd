package isolate

// Load tells how many requests a unit was sent so far and how many are under way; a unit that is not
// declared has none.
func (h *Host) Load(key string) (begun uint64, running int) {
	h.mu.Lock()
	u := h.units[key]
	h.mu.Unlock()
	if u == nil {
		return 0, 0
	}
	for _, c := range u.living() {
		running += max(0, c.running())
	}
	return u.requests.Load(), running
}
