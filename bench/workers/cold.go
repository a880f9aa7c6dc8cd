package main

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"selvage/bench/rig"
)

// burst is how many sleeping Workers are asked at once in the last case.
const burst = 8

// settled is the pause after which the node has a warm spare again.
const settled = 250 * time.Millisecond

// coldStarts measures the first answers of sleeping Workers. Each Worker has a child of its own, so
// one more of an account that is awake starts as one of an account that sleeps.
func coldStarts(b *bench) error {
	rounds := rig.Number("BENCH_COLD", 50)
	s, err := b.startSite(bothCPUs)
	if err != nil {
		return err
	}
	defer s.Stop()
	sleeper, err := s.neighbour("Sleeper")
	if err != nil {
		return err
	}
	if err := errors.Join(s.deploy("awake", script("hello.js"), nil), sleeper.deploy("hello", script("hello.js"), nil)); err != nil {
		return err
	}
	names := make([]string, burst)
	for i := range names {
		names[i] = fmt.Sprintf("hello%d", i)
		if err := s.deploy(names[i], script("hello.js"), nil); err != nil {
			return err
		}
	}
	spare, err := sleeper.wake(rounds, "hello")
	if err != nil {
		return err
	}
	b.cold("sleeping account, warm spare", "selvage", spare[0])
	b.target("Cold start p50 ms, warm spare; limit: 10 ms", rig.Quantile(spare[0], 0.5), 10)
	if err := s.user.until(s.host("awake"), "/", "Hello World!", time.Millisecond); err != nil {
		return err
	}
	more, err := s.wake(rounds, names[0])
	if err != nil {
		return err
	}
	b.cold("one more Worker of an awake account, warm spare", "selvage", more[0])
	two, err := s.wake(rounds, names[0], names[1])
	if err != nil {
		return err
	}
	b.cold("another one at once, the spare is taken", "selvage", two[1])
	if err := b.coldBurst(s, names, rounds/burst+1); err != nil {
		return err
	}
	return b.coldWorkerd(rounds)
}

func (b *bench) cold(name, peer string, all []float64) {
	b.add(rig.Result{Bench: "workers cold", Case: name, Peer: peer, Runs: len(all), Values: map[string]float64{
		"first answer p50 ms": rig.Quantile(all, 0.5), "first answer p99 ms": rig.Quantile(all, 0.99), "fastest ms": rig.Quantile(all, 0),
	}})
}

// wake puts Workers to sleep and asks one after the other, round by round, over a connection that
// was open before. It returns the milliseconds of each.
func (s *site) wake(rounds int, names ...string) ([][]float64, error) {
	took := make([][]float64, len(names))
	for range rounds {
		for _, name := range names {
			if err := s.user.until(s.host(name), "/", "Hello World!", time.Millisecond); err != nil {
				return nil, err
			}
			if err := s.sleep(name); err != nil {
				return nil, err
			}
		}
		time.Sleep(settled)
		for i, name := range names {
			began := time.Now()
			if err := s.user.want(s.host(name), "/", "Hello World!"); err != nil {
				return nil, err
			}
			took[i] = append(took[i], milliseconds(time.Since(began)))
		}
	}
	return took, nil
}

// coldBurst asks several sleeping Workers at the same moment.
func (b *bench) coldBurst(s *site, names []string, rounds int) error {
	var all []float64
	var mu sync.Mutex
	for range rounds {
		for _, name := range names {
			if err := s.sleep(name); err != nil {
				return err
			}
		}
		time.Sleep(settled)
		var group sync.WaitGroup
		faults := make([]error, len(names))
		for i, name := range names {
			group.Go(func() {
				began := time.Now()
				faults[i] = s.user.want(s.host(name), "/", "Hello World!")
				mu.Lock()
				all = append(all, milliseconds(time.Since(began)))
				mu.Unlock()
			})
		}
		group.Wait()
		if err := errors.Join(faults...); err != nil {
			return err
		}
	}
	b.cold(fmt.Sprintf("%d sleeping Workers at the same moment", len(names)), "selvage", all)
	return nil
}

// coldWorkerd starts workerd alone and asks it until it answers.
func (b *bench) coldWorkerd(rounds int) error {
	var all []float64
	for range rounds {
		addr := fmt.Sprintf("127.0.0.1:%d", rig.FreePort())
		u := newUser(addr)
		began := time.Now()
		p, err := b.startWorkerd(bothCPUs, "cold", workerdHello(addr, ""))
		if err != nil {
			return err
		}
		err = u.until("cold.test", "/", "Hello World!", 200*time.Microsecond)
		all = append(all, milliseconds(time.Since(began)))
		u.client.CloseIdleConnections()
		p.Stop()
		if err != nil {
			return err
		}
	}
	b.cold("the process starts (taskset, exec, answer)", plainWorkerd, all)
	return nil
}
