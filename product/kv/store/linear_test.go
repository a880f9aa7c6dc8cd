package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// register is one key: a put or delete sets it, a get reads it.
type operation struct {
	write bool
	value string // "" is no value
}

var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		return [][]porcupine.Operation{history}
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(operation); in.write {
			return true, in.value
		}
		return output.(string) == state.(string), state
	},
	Equal: func(a, b any) bool { return a == b },
}

// TestOneKeyIsLinear has many clients put, delete and read one key, small and large, in memory and out
// of it, and checks that there is an order in which all of it makes sense.
func TestOneKeyIsLinear(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	began := time.Now()
	var mu sync.Mutex // guards history
	var history []porcupine.Operation
	var next atomic.Int64
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			for i := range 120 {
				var in operation
				out := ""
				from := time.Since(began).Nanoseconds()
				switch (client + i) % 4 {
				case 0:
					in = operation{true, fmt.Sprint(next.Add(1))}
					value := []byte(in.value + " ")
					if n := []int{10, 2000, 70 << 10}[i%3]; len(value) < n {
						value = append(value, make([]byte, n-len(value))...)
					}
					if err := b.put(sp, "k", value, 0, ""); err != nil {
						t.Error(err)
						return
					}
				case 1:
					if i%5 != 0 {
						continue
					}
					in.write = true
					if err := b.Delete(t.Context(), sp, "k"); err != nil {
						t.Error(err)
						return
					}
				default:
					value, _, err := b.get(sp, "k")
					if err != nil {
						t.Error(err)
						return
					}
					if value != nil {
						fmt.Sscan(string(value[:10]), &out)
					}
				}
				op := porcupine.Operation{ClientId: client, Input: in, Call: from, Output: out, Return: time.Since(began).Nanoseconds()}
				mu.Lock()
				history = append(history, op)
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	if result := porcupine.CheckOperationsTimeout(register, history, time.Minute); result != porcupine.Ok {
		t.Errorf("%d operations are %s", len(history), result)
	}
}
