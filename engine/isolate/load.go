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

// Running returns how many requests and events are under way in the units of a tenant.
func (h *Host) Running(tenant string) int {
	sum := 0
	for _, u := range h.all() {
		if u.tenant() != tenant {
			continue
		}
		for _, c := range u.living() {
			sum += max(0, c.running())
		}
	}
	return sum
}

func (u *unit) tenant() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.content.Tenant
}
