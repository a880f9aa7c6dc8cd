package postgres

// line holds what waits for its turn. It keeps its memory.
type line[T any] struct {
	items []T
	head  int // of items, the first that is still there
}

func (l *line[T]) push(v T) {
	if l.head > maxRoom && l.head > len(l.items)/2 {
		l.items = l.items[:copy(l.items, l.items[l.head:])]
		l.head = 0
	}
	l.items = append(l.items, v)
}

// first returns what is next; ok is false if there is nothing.
func (l *line[T]) first() (v T, ok bool) {
	if l.head == len(l.items) {
		return v, false
	}
	return l.items[l.head], true
}

// pop takes what is next out, if there is something.
func (l *line[T]) pop() {
	if l.head < len(l.items) {
		l.head++
	}
	if l.head == len(l.items) {
		l.clear()
	}
}

// maxRoom is for how many things room is kept.
const maxRoom = 64

func (l *line[T]) clear() {
	if cap(l.items) > maxRoom {
		l.items = nil
	}
	l.items, l.head = l.items[:0], 0
}
