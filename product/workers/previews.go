package workers

import (
	"sync"

	"selvage/spec"
)

// maxPreviews is how many versions are kept ready beside those that are deployed.
const maxPreviews = 64

// previews are versions that were asked for by their own address. The zero value is ready.
type previews struct {
	mu   sync.Mutex // guards the field below
	made map[string]*version
}

func (p *previews) get(id string, build func() *version) *version {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v := p.made[id]; v != nil {
		return v
	}
	if p.made == nil || len(p.made) >= maxPreviews {
		p.made = map[string]*version{}
	}
	v := build()
	p.made[id] = v
	return v
}

// clear forgets all: what they were made of may have changed.
func (p *previews) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = nil
}

// prepare declares the unit of a version that is not deployed. It falls asleep by itself.
func (w *Workers) prepare(a *spec.AccountWorkers, v *spec.WorkerVersion) *version {
	made := w.newVersion(a, v)
	if v.Main == "" || made.traced {
		return made
	}
	for _, traced := range []bool{false, true} {
		u, err := w.unitOf(a, v, traced)
		if err != nil {
			w.log.Error("preview cannot be made ready as a whole", "unit", u.Key, "error", err)
		}
		w.host.Set(u)
	}
	return made
}
