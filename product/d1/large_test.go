package d1_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLargeResultsTogether has many clients ask for large results before any of them reads: what the node holds
// at once is bounded, and who finds no room reads why.
func TestLargeResultsTogether(t *testing.T) {
	const clients, most = 32, 1 << 30 // clients of 48 MB each
	d := newDesk(t)
	_, id := d.make(d.owner.AccountID, "one")
	b := d.bind(d.owner.AccountID, id)
	const large = `{"sql":"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1200) SELECT hex(zeroblob(20000)) AS x FROM n"}`
	ended := make(chan struct{})
	peak := make(chan uint64, 1)
	go func() { peak <- heap(ended) }()
	var asked, all sync.WaitGroup
	var mu sync.Mutex // guards answered
	answered := map[string]int{}
	asked.Add(clients)
	for range clients {
		all.Go(func() {
			res, err := b.c.Post("http://d1/query", "application/json", strings.NewReader(large))
			asked.Done()
			asked.Wait()
			how := fmt.Sprint(err)
			if err == nil {
				how = readLarge(res)
			}
			mu.Lock()
			defer mu.Unlock()
			answered[how]++
		})
	}
	all.Wait()
	close(ended)
	const refused = `{"success":false,"error":"Too many large results are on their way at once: try again in a moment, or read in parts by LIMIT."}`
	if answered["whole"] == 0 || answered[refused] == 0 || answered["whole"]+answered[refused] != clients {
		t.Errorf("%d clients were answered %v", clients, answered)
	}
	got := <-peak
	t.Logf("%d of %d results came whole, with at most %d MiB of heap", answered["whole"], clients, got>>20)
	if got > most {
		t.Errorf("%d MiB were held at once, want at most %d", got>>20, most>>20)
	}
	res, err := b.c.Post("http://d1/query", "application/json", strings.NewReader(large))
	must(t, err)
	if how := readLarge(res); how != "whole" {
		t.Errorf("after the others were read: %.200s", how)
	}
}

// readLarge says how a large result came: "whole", or with which text instead.
func readLarge(res *http.Response) string {
	defer res.Body.Close()
	head := make([]byte, 1<<10)
	n, _ := io.ReadFull(res.Body, head)
	rest, err := io.Copy(io.Discard, res.Body)
	switch {
	case err != nil:
		return err.Error()
	case rest > 48_000_000:
		return "whole"
	}
	return string(head[:n])
}

// heap returns the most bytes of the heap until ended is closed.
func heap(ended chan struct{}) (most uint64) {
	var m runtime.MemStats
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		select {
		case <-tick.C:
		case <-ended:
			return most
		}
	}
}
