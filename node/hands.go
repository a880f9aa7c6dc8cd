package node

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/product/r2"
	"selvage/product/r2/s3"
)

// maxSettlement is more than what one process may ask another to enter for it: content that lies in the
// index, and a record.
const maxSettlement = 1 << 20

// r2Hands is how R2 goes on while the store of data changes hands.
func (n *Node) r2Hands() *r2.Hands {
	return &r2.Hands{
		Enter: n.enterS3,
		Public: func(ctx context.Context, ex *edge.Exchange, at r2.PublicName, own edge.Handler) error {
			return n.throughData(ctx, ex, ticket{Public: &at}, own)
		},
		Aside: n.stepAside, Elsewhere: n.settleElsewhere,
	}
}

// enterS3 lets a request of an S3 client in as soon as there is a process that has the data.
func (n *Node) enterS3(ctx context.Context) (s3.Entry, error) {
	switch state, reason := n.data.enter(ctx); state {
	case passOpen:
		ctx, v := visiting(ctx, &n.data.passage)
		return s3.Entry{Context: ctx, Leave: v.leave}, nil
	case passRelays:
		return s3.Entry{Elsewhere: n.data.s3}, nil
	case passShut:
		return s3.Entry{}, fault.New(fault.Unavailable, "%s", reason)
	}
	return s3.Entry{}, fault.New(fault.Unavailable, stillHandingOver)
}

// stepAside lets the store of data be handed over while the request that ctx belongs to does without it.
// Background work, which ends before the store goes, has no need to.
func (n *Node) stepAside(ctx context.Context) (back func() (here bool, err error)) {
	v := visitOf(ctx)
	if v == nil {
		return func() (bool, error) { return true, nil }
	}
	v.leave()
	return func() (bool, error) {
		switch state, reason := v.enter(ctx, &n.data.passage); state {
		case passOpen:
			return true, nil
		case passRelays:
			return false, nil
		case passShut:
			return false, fault.New(fault.Unavailable, "%s", reason)
		}
		return false, fault.New(fault.Unavailable, stillHandingOver)
	}
}

// settleElsewhere has the successor enter an object of R2 that this process has taken in.
func (n *Node) settleElsewhere(ctx context.Context, message []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://relay/", bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	r.Header.Set(relayedTo, relaySettle)
	res, err := n.data.relay.RoundTrip(r)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, successorGone)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxSettlement))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("the successor answers %d: %s", res.StatusCode, answer)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, successorGone)
	}
	return answer, nil
}

// settle enters an object of R2 that the predecessor has taken in.
func (n *Node) settle(w http.ResponseWriter, r *http.Request) {
	message, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSettlement))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if state, reason := n.data.enter(r.Context()); state != passOpen {
		http.Error(w, cmp.Or(reason, stillHandingOver), http.StatusServiceUnavailable)
		return
	}
	defer n.data.leave()
	answer, err := n.parts.storage.r2.Settle(r.Context(), message)
	if err != nil {
		n.log.Error("what the predecessor took in for R2 cannot be entered", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(answer)
}
