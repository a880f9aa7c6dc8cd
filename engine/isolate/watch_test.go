package isolate_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/isolate/sandbox"
)

// floods is a program that does what a host must stand.
const floods = `
export default { async fetch(request) {
  const { pathname } = new URL(request.url);
  switch (pathname) {
  case "/loop": for (;;) {}
  case "/slow": { for (let i = 0; i < 3e8; i++) Math.sqrt(i); return new Response("slow"); }
  case "/steps": for (;;) { for (let i = 0; i < 2e6; i++) Math.sqrt(i); await new Promise((f) => setTimeout(f, 0)); }
  case "/heap": { const all = []; for (;;) all.push(new Array(1000).fill({})); }
  case "/buffers": { const all = []; for (;;) all.push(new Uint8Array(1 << 24).fill(1)); }
  case "/wait": await scheduler.wait(Number(new URL(request.url).search.slice(1))); return new Response("waited");
  case "/hang": await new Promise(() => { setTimeout(() => {}, 1e6); });
  case "/stream": { let n = 0; return new Response(new ReadableStream({ async pull(c) { if (n++) { await scheduler.wait(50); for (;;) {} } c.enqueue(new TextEncoder().encode("x")); } })); }
  case "/socket": { const [ours, theirs] = Object.values(new WebSocketPair()); ours.accept(); ours.addEventListener("message", () => { for (;;) {} }); return new Response(null, { status: 101, webSocket: theirs }); }
  }
  return new Response("ok");
} };`

// limited returns a host with one unit whose program may use so much CPU.
func limited(t testing.TB, cpu time.Duration, edit func(o *isolate.Options)) *house {
	t.Helper()
	h := start(t, edit)
	u := h.module("u", floods)
	u.Programs[0].CPU = cpu
	h.Set(u)
	h.want("u", "/", "ok")
	return h
}

// blamed sees that err tells a request that it is the cause of its child's end.
func blamed(t testing.TB, what string, err error, reason isolate.Reason) {
	t.Helper()
	var stopped *isolate.Stopped
	if !errors.As(err, &stopped) || stopped.Reason != reason || !stopped.Culprit {
		t.Errorf("%s: %+v, want it blamed with reason %s", what, err, reason)
	}
}

func TestLoopIsEnded(t *testing.T) {
	for _, cpu := range []time.Duration{10 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(cpu.String(), func(t *testing.T) {
			h := limited(t, cpu, nil)
			began := time.Now()
			_, _, err := h.ask("u", request("GET", "/loop", ""))
			took := time.Since(began)
			blamed(t, "a loop", err, isolate.ReasonCPU)
			if took < cpu {
				t.Errorf("a loop ended after %v, its program may use %v", took, cpu)
			}
			if took > cpu+5*time.Second { // far more than it takes, for machines that are busy
				t.Errorf("a loop ended only after %v, its program may use %v", took, cpu)
			}
			h.want("u", "/", "ok")
		})
	}
}

func TestWorkWithinTheLimitGoesOn(t *testing.T) {
	h := limited(t, 20*time.Second, nil)
	h.want("u", "/slow", "slow")
	for _, usage := range h.Usage() {
		if usage.Kills > 0 {
			t.Errorf("%d kills", usage.Kills)
		}
	}
}

// A request that only waits is not charged with what its neighbours use.
func TestWaitingCostsNothing(t *testing.T) {
	h := limited(t, 50*time.Millisecond, nil)
	h.want("u", "/wait?400", "waited")
	done := make(chan struct{})
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					h.want("u", "/", "ok")
				}
			}
		})
	}
	h.want("u", "/wait?600", "waited")
	close(done)
	work.Wait()
}

// A script that yields between its steps is not stuck: its request is cut, and the others go on.
func TestManySmallStepsAreCut(t *testing.T) {
	h := limited(t, 100*time.Millisecond, nil)
	_, _, err := h.ask("u", request("GET", "/steps", ""))
	blamed(t, "small steps", err, isolate.ReasonCPU)
	h.want("u", "/", "ok")
	// On a machine that is busy with other things a step may take so long that it looks stuck.
	t.Logf("%d kills; none where nothing else runs", h.Usage()[0].Kills)
}

func TestMemoryFloodIsEnded(t *testing.T) {
	for _, path := range []string{"/heap", "/buffers"} {
		t.Run(path[1:], func(t *testing.T) {
			h := limited(t, 0, nil)
			_, _, err := h.ask("u", request("GET", path, ""))
			blamed(t, path, err, isolate.ReasonMemory)
			h.want("u", "/", "ok")
		})
	}
}

// What a stuck child has not read is answered by another, and what it has read is tried again when
// the child is ended.
func TestNeighboursOfALoopAreAnswered(t *testing.T) {
	h := limited(t, 4*time.Second, nil)
	waiting := make(chan error, 1)
	go func() {
		_, body, err := h.ask("u", request("GET", "/wait?1000", ""))
		if err == nil && body != "waited" {
			err = errors.New(body)
		}
		waiting <- err
	}()
	loop := make(chan error, 1)
	time.AfterFunc(100*time.Millisecond, func() {
		_, _, err := h.ask("u", request("GET", "/loop", ""))
		loop <- err
	})
	var slowest time.Duration
	for len(loop) == 0 {
		began := time.Now()
		h.want("u", "/", "ok")
		slowest = max(slowest, time.Since(began))
	}
	blamed(t, "the loop", <-loop, isolate.ReasonCPU)
	if err := <-waiting; err != nil {
		t.Errorf("a request that waited beside the loop: %v", err)
	}
	if slowest > 3*time.Second {
		t.Errorf("a request beside the loop took %v; another child should take over after 50 ms", slowest)
	}
}

func TestLoopWhileStreamingIsEnded(t *testing.T) {
	h := limited(t, 100*time.Millisecond, nil)
	_, body, err := h.ask("u", request("GET", "/stream", ""))
	blamed(t, "a loop after the head", err, isolate.ReasonCPU)
	if body != "x" {
		t.Errorf("body = %q, want what was written before the loop", body)
	}
}

func TestLoopOfASessionIsEnded(t *testing.T) {
	h := limited(t, 100*time.Millisecond, nil)
	r := request("GET", "/socket", "")
	r.Upgrade, r.Header = "websocket", fields("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version", "13")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := h.Fetch(ctx, isolate.Address{Unit: "u", Program: "main"}, r)
	if err != nil || resp.Tunnel == nil {
		t.Fatalf("%+v, %v", resp, err)
	}
	defer resp.Tunnel.Close()
	if _, err := resp.Tunnel.Write([]byte("\x81\x81\x00\x00\x00\x00x")); err != nil {
		t.Fatal(err)
	}
	if n, err := resp.Tunnel.Read(make([]byte, 16)); err == nil {
		t.Errorf("%d bytes came, want the end", n)
	}
	if ctx.Err() != nil {
		t.Error("the session lives on")
	}
}

func TestLimitsHoldBehindWalls(t *testing.T) {
	h := limited(t, 100*time.Millisecond, func(o *isolate.Options) { o.Walls = sandbox.Probe(t.Context()) })
	for path, reason := range map[string]isolate.Reason{"/loop": isolate.ReasonCPU, "/heap": isolate.ReasonMemory, "/buffers": isolate.ReasonMemory} {
		_, _, err := h.ask("u", request("GET", path, ""))
		var stopped *isolate.Stopped
		if !errors.As(err, &stopped) || !stopped.Culprit || stopped.Reason != reason && stopped.Reason != isolate.ReasonCPU {
			t.Errorf("%s: %v, want it blamed with reason %s", path, err, reason)
		}
		h.want("u", "/", "ok")
	}
}
