package backlog

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// inlineBody is the most bytes of a body that stand in the index. Larger ones are keys of their own, so
// that a retry does not write them anew.
const inlineBody = 2 << 10

// Format is what the bytes of a body are.
type Format uint8

// The formats that the Workers runtime knows.
const (
	V8 Format = iota // structured clone
	JSON
	Text
	Bytes
)

var formatNames = [...]string{V8: "v8", JSON: "json", Text: "text", Bytes: "bytes"}

// String returns the name as clients write it.
func (f Format) String() string {
	if int(f) < len(formatNames) {
		return formatNames[f]
	}
	return fmt.Sprintf("format %d", uint8(f))
}

// ParseFormat returns the format with a name; ok is false if there is none.
func ParseFormat(s string) (f Format, ok bool) {
	for i, n := range formatNames {
		if n == s {
			return Format(i), true
		}
	}
	return 0, false
}

// Source is who sent a message.
type Source uint8

// The sources that a node has.
const (
	FromWorker Source = iota
	FromAPI
	FromR2
)

var sourceNames = [...]string{FromWorker: "worker", FromAPI: "api", FromR2: "r2"}

// String returns the name as clients read it.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return fmt.Sprintf("source %d", uint8(s))
}

// Draft is a message to be sent.
type Draft struct {
	Format Format
	Source Source
	Body   []byte
	Delay  time.Duration // until it may be delivered
}

// Message is a message of a queue.
type Message struct {
	ID       string // 32 hex digits
	Format   Format
	Source   Source
	Body     []byte
	Sent     time.Time
	Attempts int // deliveries, this one among them
	Lease    Lease
}

// entry is what the index holds of a message.
type entry struct {
	format   Format
	source   Source
	attempts uint16 // deliveries that failed
	sent     int64  // milliseconds since 1970
	came     int64  // into this queue, where retention begins; later than sent in a dead-letter queue
	id       [16]byte
	size     uint32
	apart    bool   // the body is a key of its own
	body     []byte // otherwise
}

const (
	entryVersion = 1
	flagApart    = 1
	sourceShift  = 1 // flags above the first are the source
	entryHead    = 1 + 1 + 1 + 2 + 8 + 8 + 16 + 4
)

func (e *entry) encode() []byte {
	b := make([]byte, 0, entryHead+len(e.body))
	flags := byte(e.source) << sourceShift
	if e.apart {
		flags |= flagApart
	}
	b = append(b, entryVersion, flags, byte(e.format))
	b = binary.BigEndian.AppendUint16(b, e.attempts)
	b = binary.BigEndian.AppendUint64(b, uint64(e.sent))
	b = binary.BigEndian.AppendUint64(b, uint64(e.came))
	b = append(b, e.id[:]...)
	b = binary.BigEndian.AppendUint32(b, e.size)
	return append(b, e.body...)
}

// decodeEntry reads an entry; its body is a part of b.
func decodeEntry(b []byte) (e entry, err error) {
	if len(b) < entryHead || b[0] != entryVersion {
		return e, fmt.Errorf("a message of %d bytes in the index cannot be read", len(b))
	}
	e.apart, e.source, e.format = b[1]&flagApart != 0, Source(b[1]>>sourceShift), Format(b[2])
	e.attempts = binary.BigEndian.Uint16(b[3:])
	e.sent, e.came = int64(binary.BigEndian.Uint64(b[5:])), int64(binary.BigEndian.Uint64(b[13:]))
	copy(e.id[:], b[21:])
	e.size = binary.BigEndian.Uint32(b[37:])
	if e.body = b[entryHead:]; !e.apart && int(e.size) != len(e.body) {
		return e, fmt.Errorf("a message in the index has %d bytes of %d", len(e.body), e.size)
	}
	return e, nil
}

// message returns the entry as it is delivered.
func (e *entry) message(body []byte) Message {
	return Message{
		ID: hex.EncodeToString(e.id[:]), Format: e.format, Source: e.source, Body: body, Sent: time.UnixMilli(e.sent).UTC(), Attempts: int(e.attempts) + 1,
	}
}
