// Package spec holds the nouns of the house: what a zone, a record, a ruleset or a certificate is,
// which values it may have, and the immutable Snapshot that products prepare from.
// It knows no engine and does no I/O.
package spec

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Kind names a sort of noun. It is part of the storage key: never rename one.
type Kind string

// Key says which noun. Scope is the ID of what owns it (a zone or an account), empty at the top.
type Key struct {
	Kind  Kind
	Scope string
	ID    string
}

// String returns kind/scope/id.
func (k Key) String() string { return string(k.Kind) + "/" + k.Scope + "/" + k.ID }

// Noun is something that the control plane stores. Nouns are immutable once stored: change a copy.
type Noun interface {
	Key() Key
	// Validate reports every fault at once, as fault.Invalid errors joined.
	Validate() error
}

// NewID returns 32 random hex digits, the form of every ID in the v4 API.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Timestamp truncates to the microsecond in UTC, as the v4 API shows times.
func Timestamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// kind describes how one sort of noun is read back and where it stands in a Snapshot.
type kind struct {
	decode func([]byte) (Noun, error)
	// apply puts or (when c.Noun is nil) removes a noun in an edit of a snapshot;
	// nil for nouns that only the control plane needs, such as tokens.
	apply func(e *edit, c Change)
}

// kinds is the list of all nouns. A new product adds its line here.
var kinds = map[Kind]kind{
	KindAccount:     {decodeAs[Account], applyAccount},
	KindZone:        {decodeAs[Zone], applyZone},
	KindRecord:      {decodeAs[Record], applyRecord},
	KindSettings:    {decodeAs[Settings], applySettings},
	KindRuleset:     {decodeAs[Ruleset], applyRuleset},
	KindCertificate: {decodeAs[Certificate], applyCertificate},
	KindPack:        {decodeAs[CertificatePack], applyPack},
	KindToken:       {decodeAs[Token], nil},
	KindUser:        {decodeAs[User], nil},

	KindOriginCertificate: {decodeAs[OriginCertificate], applyOriginCertificate},

	KindWorker:           {decodeAs[Worker], applyWorker},
	KindWorkerVersion:    {decodeAs[WorkerVersion], applyWorkerVersion},
	KindWorkerDeployment: {decodeAs[WorkerDeployment], nil},
	KindWorkerRoute:      {decodeAs[WorkerRoute], applyWorkerRoute},
	KindWorkerDomain:     {decodeAs[WorkerDomain], applyWorkerDomain},
	KindWorkerSubdomain:  {decodeAs[WorkerSubdomain], applyWorkerSubdomain},
	KindObjectNamespace:  {decodeAs[ObjectNamespace], applyObjectNamespace},

	KindKVNamespace:   {decodeAs[KVNamespace], applyKVNamespace},
	KindBucket:        {decodeAs[Bucket], applyBucket},
	KindDatabase:      {decodeAs[Database], applyDatabase},
	KindQueue:         {decodeAs[Queue], applyQueue},
	KindQueueConsumer: {decodeAs[QueueConsumer], applyQueueConsumer},
	KindHyperdrive:    {decodeAs[Hyperdrive], applyHyperdrive},
	KindQuotas:        {decodeAs[Quotas], applyQuotas},

	KindMTLSCertificate: {decodeAs[MTLSCertificate], applyMTLSCertificate},
}

// Decode reads a stored noun. Unknown fields are kept out silently here, for an older program must
// start on a newer one's data; strictness belongs to the API.
func Decode(k Kind, data []byte) (Noun, error) {
	def, ok := kinds[k]
	if !ok {
		return nil, fmt.Errorf("no noun of kind %q", k)
	}
	return def.decode(data)
}

// Known tells whether k is a kind of noun of this program.
func Known(k Kind) bool { _, ok := kinds[k]; return ok }

func decodeAs[T any, P interface {
	*T
	Noun
}](data []byte) (Noun, error) {
	v := P(new(T))
	if err := json.Unmarshal(data, v); err != nil {
		return nil, err
	}
	return v, nil
}
