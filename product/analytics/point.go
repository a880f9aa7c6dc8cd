package analytics

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"selvage/edge"
	"selvage/foundation/budget"
)

const (
	columns  = 20        // of blobs, and of doubles
	maxIndex = 96        // bytes
	maxBlobs = 16 << 10  // bytes, together
	maxPoint = 512 << 10 // bytes of a point as the runtime writes it: a number for each octet
)

// point is one data point, as it is kept.
type point struct {
	account, dataset string
	at               time.Time
	index            string
	blobs            [columns]string
	doubles          [columns]float64
}

// size is about how many bytes the point takes while it waits.
func (p *point) size() int64 {
	n := 64 + 16*columns + 8*columns + len(p.index)
	for _, b := range p.blobs {
		n += len(b)
	}
	return int64(n)
}

// octets is a byte string as the runtime's JSON has it: an array of numbers.
type octets string

// UnmarshalJSON reads numbers from 0 to 255.
func (o *octets) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) < 2 || b[0] != '[' {
		return errPoint
	}
	out := make([]byte, 0, len(b)/3)
	for field := range bytes.SplitSeq(b[1:len(b)-1], []byte{','}) {
		if field = bytes.TrimSpace(field); len(field) == 0 {
			continue
		}
		n, err := strconv.ParseUint(string(field), 10, 8)
		if err != nil {
			return errPoint
		}
		out = append(out, byte(n))
	}
	*o = octets(strings.ToValidUTF8(string(out), "\uFFFD"))
	return nil
}

// number is a double; the runtime writes the ones that JSON lacks as strings. Those become 0: no
// sum survives them.
type number float64

// UnmarshalJSON reads a number.
func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseFloat(string(bytes.Trim(b, `"`)), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	*n = number(v)
	return nil
}

var errPoint = &edge.Failure{Status: http.StatusBadRequest, Reason: "bad_point", Detail: "This is not a data point."}

// parsePoint reads what the runtime sends for a point: {"index1": [...], "blob1": [...],
// "double1": 1, ...}. Account, dataset and time in it are not believed.
func parsePoint(body []byte) (*point, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, errPoint
	}
	p := &point{}
	var index octets
	if raw, ok := fields["index1"]; ok && json.Unmarshal(raw, &index) != nil {
		return nil, errPoint
	}
	p.index = string(index)
	total := 0
	for i := range columns {
		var blob octets
		if raw, ok := fields[blobNames[i]]; ok && json.Unmarshal(raw, &blob) != nil {
			return nil, errPoint
		}
		var double number
		if raw, ok := fields[doubleNames[i]]; ok && json.Unmarshal(raw, &double) != nil {
			return nil, errPoint
		}
		p.blobs[i], p.doubles[i] = string(blob), float64(double)
		total += len(blob)
	}
	if len(p.index) > 3*maxIndex || total > 3*maxBlobs { // the replacement of a bad octet has three
		return nil, errPoint
	}
	return p, nil
}

var blobNames, doubleNames = namesOf("blob"), namesOf("double")

func namesOf(prefix string) (names [columns]string) {
	for i := range names {
		names[i] = prefix + strconv.Itoa(i+1)
	}
	return names
}

// intake takes the points of one binding.
type intake struct {
	a                *Analytics
	account, dataset string
	good             bool
}

func (in *intake) handle(_ context.Context, ex *edge.Exchange) error {
	outcome := in.take(ex)
	in.a.metrics.points.WithLabelValues(outcome).Inc()
	ex.Respond(http.StatusOK, edge.Header{}, nil)
	return nil
}

func (in *intake) take(ex *edge.Exchange) (outcome string) {
	if ex.Request.Body == nil || !in.good {
		return "bad"
	}
	body, err := io.ReadAll(budget.Reader("A data point", ex.Request.Body, maxPoint))
	if err != nil {
		return "bad"
	}
	p, err := parsePoint(body)
	if err != nil {
		return "bad"
	}
	p.account, p.dataset, p.at = in.account, in.dataset, in.a.o.Clock.Now().UTC()
	if !in.a.queue.put(p) {
		return "dropped"
	}
	return "queued"
}
