package tail

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// Opcodes and close codes of RFC 6455.
const (
	opContinue = 0
	opText     = 1
	opBinary   = 2
	opClose    = 8
	opPing     = 9
	opPong     = 10

	closeNormal     = 1000
	closeGoingAway  = 1001
	closeProtocol   = 1002
	closeNoStatus   = 1005 // never sent
	closeBadText    = 1007
	closePolicy     = 1008
	closeTooBig     = 1009
	maxControl      = 125
	maxClientFrames = 1024     // of one message
	maxClientBytes  = 64 << 10 // of one message
)

// closeError is an end of a WebSocket with its code: the peer's own, or what we have to say of a fault
// of the peer.
type closeError struct {
	code   int
	reason string
	byPeer bool
}

func (e *closeError) Error() string {
	return fmt.Sprintf("websocket closed with %d %s", e.code, e.reason)
}

// wire reads the frames of a client. It takes unmasked ones too, which RFC 6455 forbids: wrangler sends
// its first message so.
type wire struct {
	r       *bufio.Reader
	message []byte // of fragments so far
	frames  int
	op      byte // of the message under way; 0 if there is none
}

// read returns the next whole message or control frame. Text is checked to be UTF-8; a close frame comes
// back as a closeError.
func (w *wire) read() (op byte, payload []byte, err error) {
	for {
		fin, op, payload, err := w.frame()
		if err != nil {
			return 0, nil, err
		}
		if op >= opClose {
			if op == opClose {
				return 0, nil, parseClose(payload)
			}
			return op, payload, nil
		}
		if (op == opContinue) != (w.op != 0) {
			return 0, nil, &closeError{code: closeProtocol, reason: "fragments out of order"}
		}
		if op != opContinue {
			w.op = op
		}
		if w.frames++; w.frames > maxClientFrames {
			return 0, nil, &closeError{code: closePolicy, reason: "too many fragments"}
		}
		w.message = append(w.message, payload...)
		if !fin {
			continue
		}
		op, payload = w.op, w.message
		w.op, w.message, w.frames = 0, nil, 0
		if op == opText && !utf8.Valid(payload) {
			return 0, nil, &closeError{code: closeBadText, reason: "text is not UTF-8"}
		}
		return op, payload, nil
	}
}

// frame reads one frame.
func (w *wire) frame() (fin bool, op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return false, 0, nil, err
	}
	fin, op = head[0]&0x80 != 0, head[0]&0x0f
	if head[0]&0x70 != 0 {
		return false, 0, nil, &closeError{code: closeProtocol, reason: "extension bits without an extension"}
	}
	if op > opBinary && op < opClose || op > opPong {
		return false, 0, nil, &closeError{code: closeProtocol, reason: "unknown opcode"}
	}
	length, err := w.length(head[1] & 0x7f)
	if err != nil {
		return false, 0, nil, err
	}
	if op >= opClose && (!fin || length > maxControl) {
		return false, 0, nil, &closeError{code: closeProtocol, reason: "control frame too long or in fragments"}
	}
	if length > uint64(maxClientBytes-len(w.message)) {
		return false, 0, nil, &closeError{code: closeTooBig, reason: fmt.Sprintf("a message may have %d bytes", maxClientBytes)}
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(w.r, mask[:]); err != nil {
			return false, 0, nil, cut(err)
		}
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(w.r, payload); err != nil {
		return false, 0, nil, cut(err)
	}
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return fin, op, payload, nil
}

func (w *wire) length(short byte) (uint64, error) {
	var b [8]byte
	switch short {
	case 126:
		_, err := io.ReadFull(w.r, b[6:])
		return binary.BigEndian.Uint64(b[:]), cut(err)
	case 127:
		_, err := io.ReadFull(w.r, b[:])
		return binary.BigEndian.Uint64(b[:]), cut(err)
	}
	return uint64(short), nil
}

// cut says that an end within a frame is not a proper one.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func parseClose(payload []byte) error {
	if len(payload) == 0 {
		return &closeError{code: closeNoStatus, byPeer: true}
	}
	if len(payload) == 1 || !utf8.Valid(payload[2:]) {
		return &closeError{code: closeProtocol, reason: "broken close frame"}
	}
	code := int(binary.BigEndian.Uint16(payload))
	known := code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)
	if !known && (code < 3000 || code > 4999) {
		return &closeError{code: closeProtocol, reason: "a close code that may not be sent"}
	}
	return &closeError{code: code, reason: string(payload[2:]), byPeer: true}
}

// appendFrame appends a whole, unmasked frame, as servers send them.
func appendFrame(b []byte, op byte, payload []byte) []byte {
	b = append(b, 0x80|op)
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = append(b, 126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, 127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, payload...)
}

// closePayload is the payload of a close frame.
func closePayload(code int, reason string) []byte {
	if code == closeNoStatus {
		return nil
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(code))
	return append(b, reason[:min(len(reason), maxControl-2)]...)
}
