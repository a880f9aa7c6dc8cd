package workers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Codes of Cloudflare's API about scripts and versions.
const (
	codeNoScript       = 10007
	codeNoService      = 10090
	codeNoNewVersion   = 10222
	codeNotDeployed    = 10215
	codeSettingsBehind = 10214
)

// versionsKept is how many versions of a script are kept beside those in force, deploymentsKept how
// many deployments are remembered.
const (
	versionsKept    = 100
	deploymentsKept = 25
)

// releaseTries bounds how often a release starts again because another one was quicker.
const releaseTries = 100

// errMoved says that the script changed since the release began.
var errMoved = errors.New("the script changed meanwhile")

// base is a script as it was when a change of it began.
type base struct {
	snap   *spec.Snapshot
	all    *spec.AccountWorkers
	worker *spec.Worker        // nil: there is none yet
	latest *spec.WorkerVersion // the newest version; nil if there is none
}

func baseOf(snap *spec.Snapshot, accountID, script string) base {
	b := base{snap: snap, all: snap.WorkersOf(accountID)}
	b.worker = b.all.Scripts[script]
	if b.worker != nil {
		b.latest = b.all.Versions[b.worker.Latest]
	}
	return b
}

// same tells whether a version made on b is right on now, too.
func (b base) same(now base) bool {
	if b.worker == nil || now.worker == nil {
		return b.worker == now.worker
	}
	return b.worker.ID == now.worker.ID && b.worker.Versions == now.worker.Versions && b.worker.MigrationTag == now.worker.MigrationTag
}

// deployed returns the version that alone is in force, or nil.
func (b base) deployed() *spec.WorkerVersion {
	if b.worker == nil || len(b.worker.Deployment.Versions) != 1 {
		return nil
	}
	return b.all.Versions[b.worker.Deployment.Versions[0].VersionID]
}

// release is a new version on its way into the state.
type release struct {
	account *spec.Account
	script  string
	actor   spec.Actor
	source  string

	// make returns the version on a base: all but ID, number, times, author, and what the code exports.
	// It is called again if another change was quicker.
	make func(ctx context.Context, b base) (*spec.WorkerVersion, error)
	// sameCode tells that the version has the code of the newest one, which need not be started.
	sameCode    bool
	migrations  *migrations
	deploy      bool               // put in force at 100 %
	create      bool               // the script may be a new one
	annotations map[string]string  // of the version and of its deployment
	settings    func(*spec.Worker) // what else changes of the script; nil: nothing
}

// released is a release that is in the state.
type released struct {
	worker     *spec.Worker
	version    *spec.WorkerVersion
	deployment *spec.WorkerDeployment // nil if it was not deployed
}

// release makes a version, starts its code once to see what it exports, and puts it into the state.
// Releases of a script may run at once: each builds on the one before it, none is lost.
func (w *Workers) release(ctx context.Context, r *release) (released, error) {
	var exports *isolate.Exports
	b := baseOf(w.o.State.Snapshot(), r.account.ID, r.script)
	for range releaseTries {
		if b.worker == nil && !r.create {
			return released{}, noScript(r.script)
		}
		v, err := r.make(ctx, b)
		if err != nil {
			return released{}, err
		}
		v.AccountID, v.Script = r.account.ID, r.script
		if !r.sameCode {
			if exports == nil {
				if exports, err = w.exportsOf(ctx, v); err != nil {
					return released{}, err
				}
			}
			noteExports(v, exports)
		}
		done, err := w.commit(ctx, r, &b, v)
		if !errors.Is(err, errMoved) {
			return done, err
		}
	}
	return released{}, fault.New(fault.Unavailable, "The script %s is being changed by others all the time; try again.", r.script)
}

// exportsOf starts a draft once. What the runtime says of it is for its author.
func (w *Workers) exportsOf(ctx context.Context, v *spec.WorkerVersion) (*isolate.Exports, error) {
	if v.Main == "" {
		return &isolate.Exports{}, nil
	}
	draft := *v
	draft.ID = "draft"
	exports, err := w.inspect(ctx, &draft)
	if err == nil && len(exports.Handlers) == 0 && len(exports.Named) == 0 {
		return nil, fault.New(fault.Invalid, "No event handlers were registered. This script does nothing.").WithCode(codeNoHandlers)
	}
	if err == nil {
		return &exports, nil
	}
	var s *isolate.Stopped
	if !errors.As(err, &s) {
		return nil, err
	}
	switch s.Reason {
	case isolate.ReasonMissing:
		return nil, fault.Wrap(err, fault.Unavailable, "This node cannot run Workers: its runtime is not installed. Its operator finds how to in the documentation.")
	case isolate.ReasonKilled:
		return nil, fault.Wrap(err, fault.Unavailable, "The script could not be checked now; try again.")
	case isolate.ReasonCPU:
		return nil, fault.New(fault.Invalid, "Error: Script startup exceeded CPU time limit.").WithCode(codeInvalidUpload)
	case isolate.ReasonMemory:
		return nil, fault.New(fault.Invalid, "Error: Script startup exceeded memory limits.").WithCode(codeInvalidUpload)
	}
	detail := strings.TrimSpace(s.Detail)
	if detail == "" {
		detail = "Error: The script does not start."
	}
	return nil, fault.New(fault.Invalid, "%s", runtimesOwn.ReplaceAllString(detail, "$1 cannot yet be used in Workers deployed to Cloudflare.")).WithCode(codeInvalidUpload)
}

// runtimesOwn is what the runtime says of experimental flags to those who start it by hand.
var runtimesOwn = regexp.MustCompile(`(The compatibility flag \S+ is experimental and) may break or be removed in a future version of workerd\. To use this flag, you must pass --experimental on the command line\.`)

func noteExports(v *spec.WorkerVersion, e *isolate.Exports) {
	v.Handlers, v.NamedHandlers = slices.Clone(e.Handlers), nil
	if v.Handlers == nil {
		v.Handlers = []string{}
	}
	for _, n := range e.Named {
		v.NamedHandlers = append(v.NamedHandlers, spec.NamedHandler{Name: n.Name, Kind: n.Kind, Handlers: n.Handlers})
	}
	v.StartupTimeMs = int(e.Startup.Milliseconds())
	if e.Startup > 0 {
		v.StartupTimeMs = max(v.StartupTimeMs, 1)
	}
}

// commit puts a version made on b into the state. If the script is no longer that, it returns errMoved
// and b becomes what it is now, which may be newer than State.Snapshot: not yet on disk.
func (w *Workers) commit(ctx context.Context, r *release, b *base, v *spec.WorkerVersion) (released, error) {
	var done released
	now := w.now()
	err := w.o.State.Update(ctx, r.actor, func(tx product.Tx) error {
		cur := baseOf(tx.Snapshot(), r.account.ID, r.script)
		if !b.same(cur) {
			*b = cur
			return errMoved
		}
		moved, err := r.migrations.plan(cur, v, now)
		if err != nil {
			return err
		}
		made := *v
		made.Bindings = slices.Clone(v.Bindings)
		if err := moved.resolve(&made); err != nil {
			return err
		}
		if err := checkReferences(cur, &made); err != nil {
			return err
		}
		done = released{worker: workerFrom(cur, r, now), version: &made}
		made.ID, made.Number, made.CreatedOn = newUUID(), done.worker.Versions, now
		made.AuthorEmail, made.AuthorID, made.Source, made.Annotations = r.actor.Email, r.actor.UserID, r.source, r.annotations
		done.worker.Latest = made.ID
		if moved.tag != "" {
			done.worker.MigrationTag = moved.tag
		}
		if r.deploy {
			if err := moved.runs(&made); err != nil {
				return err
			}
			done.deployment = &spec.WorkerDeployment{Versions: []spec.VersionShare{{VersionID: made.ID, Percentage: 100}}, Annotations: r.annotations}
			if err := putDeployment(tx, done.worker, done.deployment, r, now); err != nil {
				return err
			}
		}
		if err := moved.store(tx); err != nil {
			return err
		}
		if err := tx.Put(&made); err != nil {
			return err
		}
		if err := tx.Put(done.worker); err != nil {
			return err
		}
		return trimVersions(tx, cur, done.worker)
	})
	return done, err
}

// workerFrom returns the script's noun with room for one more version.
func workerFrom(b base, r *release, now time.Time) *spec.Worker {
	next := &spec.Worker{ID: spec.NewID(), AccountID: r.account.ID, Name: r.script, CreatedOn: now}
	if b.worker != nil {
		c := *b.worker
		next = &c
	}
	next.ModifiedOn = now
	next.Versions++
	if r.settings != nil {
		r.settings(next)
	}
	return next
}

// putDeployment puts a deployment in force and forgets the oldest ones.
func putDeployment(tx product.Tx, next *spec.Worker, d *spec.WorkerDeployment, r *release, now time.Time) error {
	// Deployments are told apart by age, so each is younger than the last.
	if last := next.Deployment.CreatedOn; !now.After(last) {
		now = last.Add(time.Microsecond)
	}
	d.ID, d.AccountID, d.Script, d.CreatedOn = newUUID(), next.AccountID, next.Name, now
	d.AuthorEmail, d.AuthorID, d.Source = r.actor.Email, r.actor.UserID, r.source
	if next.Deployment.ID != "" {
		next.Before = next.Deployment.Versions
	}
	next.Deployment = *d
	if err := tx.Put(d); err != nil {
		return err
	}
	all, err := deploymentsOf(tx, next.AccountID, next.Name)
	if err != nil {
		return err
	}
	for _, old := range all[min(len(all), deploymentsKept):] {
		if err := tx.Delete(old.Key()); err != nil {
			return err
		}
	}
	return nil
}

// deploymentsOf returns the deployments of a script, newest first.
func deploymentsOf(tx product.Tx, accountID, script string) ([]*spec.WorkerDeployment, error) {
	var all []*spec.WorkerDeployment
	for n, err := range tx.List(spec.KindWorkerDeployment, accountID) {
		if err != nil {
			return nil, err
		}
		if d := n.(*spec.WorkerDeployment); d.Script == script {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(x, y *spec.WorkerDeployment) int { return y.CreatedOn.Compare(x.CreatedOn) })
	return all, nil
}

// trimVersions deletes versions beyond those that are kept. cur is the state without the newest one.
func trimVersions(tx product.Tx, cur base, next *spec.Worker) error {
	all := cur.all.VersionsOf(next.Name)
	for _, v := range all[min(len(all), versionsKept-1):] {
		if slices.ContainsFunc(slices.Concat(next.Deployment.Versions, next.Before), func(s spec.VersionShare) bool { return s.VersionID == v.ID }) {
			continue
		}
		if err := tx.Delete(v.Key()); err != nil {
			return err
		}
	}
	return nil
}

func (w *Workers) now() time.Time { return spec.Timestamp(w.o.Clock.Now()) }

// sourceOf says which tool made a call, in Cloudflare's words.
func sourceOf(header http.Header) string {
	agent := strings.ToLower(header.Get("User-Agent"))
	switch {
	case strings.HasPrefix(agent, "wrangler/"):
		return "wrangler"
	case strings.Contains(agent, "terraform"):
		return "terraform"
	}
	return "api"
}

// newUUID returns a random UUID (RFC 9562, version 4), the form of the IDs of versions and deployments.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// noScript is the fault by which wrangler knows that a script does not exist.
func noScript(name string) error {
	return fault.New(fault.NotFound, "This Worker does not exist on your account: %.80s.", name).WithCode(codeNoScript)
}

// joined is errors.Join that leaves a single error as it is.
func joined(faults []error) error {
	faults = slices.DeleteFunc(faults, func(err error) bool { return err == nil })
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}
