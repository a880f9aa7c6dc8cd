package certs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// challengeComment marks the records that orders put into zones, so that those which a crash left
// behind are found again.
const challengeComment = "ACME challenge, set and removed by the node"

// byNode is who changes certificates, packs and challenge records.
var byNode = spec.Actor{Via: "node"}

// dnsSolver answers DNS-01 (RFC 8555, 8.4) by records of the zone: our own DNS serves them by the
// time Update returns.
type dnsSolver struct {
	certs  *Certs
	zoneID string
}

var _ acmez.Solver = dnsSolver{}

// Present puts the TXT record.
func (s dnsSolver) Present(ctx context.Context, ch acme.Challenge) error {
	now := spec.Timestamp(s.certs.clock.Now())
	r := s.record(ch)
	r.CreatedOn, r.ModifiedOn, r.CommentModifiedOn = now, now, now
	return s.certs.state.Update(ctx, byNode, func(tx product.Tx) error {
		z := tx.Snapshot().Zones[s.zoneID]
		if z == nil {
			return fault.New(fault.NotFound, "The zone is gone.")
		}
		for _, other := range z.Records {
			if other.Name == r.Name && (other.Type == "CNAME" || other.Type == "NS") {
				return fault.New(fault.Conflict, "The zone has a %s record at %s, so that the challenge cannot stand there; remove it or order with validation_method http.", other.Type, r.Name)
			}
		}
		return tx.Put(r)
	})
}

// CleanUp removes it, also when the order was given up: ctx may be over.
func (s dnsSolver) CleanUp(ctx context.Context, ch acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return s.certs.state.Update(ctx, byNode, func(tx product.Tx) error { return tx.Delete(s.record(ch).Key()) })
}

// record returns the challenge's record. Its ID follows from what it holds: CleanUp needs no memory.
func (s dnsSolver) record(ch acme.Challenge) *spec.Record {
	name := strings.ToLower(strings.TrimSuffix(ch.DNS01TXTRecordName(), "."))
	value := ch.DNS01KeyAuthorization()
	sum := sha256.Sum256([]byte(s.zoneID + " " + name + " " + value))
	return &spec.Record{
		ID: hex.EncodeToString(sum[:16]), ZoneID: s.zoneID, Name: name, Type: "TXT",
		Content: `"` + value + `"`, TTL: 60, Comment: challengeComment,
	}
}

// sweep removes challenge records that an earlier process left behind. Those of the last hour may
// belong to one that is just handing over.
func (c *Certs) sweep(ctx context.Context) error {
	old := c.clock.Now().Add(-time.Hour)
	var keys []spec.Key
	for _, z := range c.state.Snapshot().Zones {
		for _, r := range z.Records {
			if r.Type == "TXT" && r.Comment == challengeComment && r.CreatedOn.Before(old) {
				keys = append(keys, r.Key())
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	err := c.state.Update(ctx, byNode, func(tx product.Tx) error {
		var errs []error
		for _, k := range keys {
			errs = append(errs, tx.Delete(k))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("remove %d old challenge records: %w", len(keys), err)
	}
	return nil
}
