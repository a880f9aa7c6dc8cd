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
	if p.made == nil {
		p.made = map[string]*version{}
	}
	if len(p.made) >= maxPreviews {
		for other := range p.made {
			delete(p.made, other) // any one: its unit sleeps, and is declared again when it is asked for
			break
		}
	}
	v := build()
	p.made[id] = v
	return v
}

// forget forgets those of an account, for what they were made of has changed, and returns the keys of
// their units.
func (p *previews) forget(accountID string) (units []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, v := range p.made {
		if v.spec.AccountID == accountID {
			units = append(units, v.unit, v.unit+tracedSuffix)
			delete(p.made, id)
		}
	}
	return units
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
		if traced {
			w.tracing.Store(u.Key, true)
		}
	}
	return made
}
