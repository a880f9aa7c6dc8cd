package kv_test

import (
	"io"
	"sync"
	"testing"
	"time"
)

// TestSlowBulkHoldsNobodyUp has one account send large requests that do not end: another's go on.
func TestSlowBulkHoldsNobodyUp(t *testing.T) {
	d := newDesk(t)
	mine, _ := d.make(d.owner.AccountID, "n")
	theirs, _ := d.make(d.other, "n")
	var slow sync.WaitGroup
	var senders []*io.PipeWriter
	for range 4 { // as many as come in at once
		body, sender := io.Pipe()
		senders = append(senders, sender)
		slow.Go(func() { d.call("PUT", theirs+"/bulk", "", body) })
		_, err := sender.Write([]byte("[")) // returns when it is read
		must(t, err)
	}
	done := make(chan got, 1)
	go func() { done <- d.do("PUT", mine+"/bulk", `[{"key":"a","value":"b"}]`) }()
	select {
	case g := <-done:
		if g.Status != 200 {
			t.Errorf("another account's bulk put = %d %s", g.Status, g.Body)
		}
	case <-time.After(20 * time.Second):
		t.Error("another account's bulk put waits for senders that do not end")
	}
	for _, sender := range senders {
		sender.CloseWithError(io.ErrUnexpectedEOF)
	}
	slow.Wait()
}
