package workers

import (
	"maps"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Codes of Cloudflare's API about Durable Object classes.
const (
	codeClassNotReady  = 10061 // a binding names a class without namespace, or one to be deleted
	codeClassMissing   = 10064 // the code dropped a class that has objects
	codeNotExported    = 10070 // a migration makes a class that the code does not have
	codeClassExists    = 10074 // a migration makes a class that is there
	codeWrongTag       = 10079 // the client did not know of the last migration
	codeNoMigrations   = 10211 // in a version that is not deployed at once
	codeServiceMissing = 10143 // a service binding names a script that does not exist
)

// migrations are the changes of a script's Durable Object classes: one step given by itself, or steps.
type migrations struct {
	OldTag string          `json:"old_tag"`
	NewTag string          `json:"new_tag"`
	Steps  []migrationStep `json:"steps"`
	migrationStep
}

// migrationStep is what one entry of wrangler's migrations does.
type migrationStep struct {
	NewClasses         []string           `json:"new_classes"`
	NewSQLiteClasses   []string           `json:"new_sqlite_classes"`
	RenamedClasses     []renamedClass     `json:"renamed_classes"`
	DeletedClasses     []string           `json:"deleted_classes"`
	TransferredClasses []transferredClass `json:"transferred_classes"`
}

type renamedClass struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type transferredClass struct {
	From       string `json:"from"`
	FromScript string `json:"from_script"`
	To         string `json:"to"`
}

// homes are the namespaces of a script as they will be after its migrations.
type homes struct {
	cur    base
	script string
	own    map[string]*spec.ObjectNamespace // by class
	fresh  map[string]bool                  // classes that a step brought
	gone   []*spec.ObjectNamespace
	tag    string // after the migrations; empty: as it was
	now    time.Time
}

// plan works out what m makes of the namespaces of v's script. m may be nil.
func (m *migrations) plan(cur base, v *spec.WorkerVersion, now time.Time) (*homes, error) {
	h := &homes{cur: cur, script: v.Script, own: map[string]*spec.ObjectNamespace{}, fresh: map[string]bool{}, now: now}
	for _, n := range cur.all.Namespaces {
		if n.Script == v.Script {
			h.own[n.Class] = n
		}
	}
	if m == nil {
		return h, nil
	}
	tag := ""
	if cur.worker != nil {
		tag = cur.worker.MigrationTag
	}
	if m.OldTag != tag {
		return nil, fault.New(fault.Conflict, "Migration tag precondition failed; current tag is %s", tag).WithCode(codeWrongTag).At("migrations.old_tag")
	}
	h.tag = m.NewTag
	for _, s := range append([]migrationStep{m.migrationStep}, m.Steps...) {
		if err := h.apply(&s, v); err != nil {
			return nil, err
		}
	}
	for class := range h.fresh {
		if h.own[class] != nil && !exports(v, class) {
			return nil, fault.New(fault.Invalid, "Cannot apply new-class migration to class '%s' that is not exported by the script. Export it from the main module.", class).WithCode(codeNotExported).At("migrations")
		}
	}
	return h, h.checkGone(v)
}

func (h *homes) apply(s *migrationStep, v *spec.WorkerVersion) error {
	for _, class := range s.DeletedClasses {
		n := h.own[class]
		if n == nil {
			return unknownClass("delete", class, h.script)
		}
		delete(h.own, class)
		h.gone = append(h.gone, n)
	}
	for _, r := range s.RenamedClasses {
		n := h.own[r.From]
		if n == nil {
			return unknownClass("rename", r.From, h.script)
		}
		if err := h.add(r.To, n); err != nil {
			return err
		}
		delete(h.own, r.From)
	}
	for _, t := range s.TransferredClasses {
		n := h.cur.all.Namespace(t.FromScript, t.From)
		if n == nil || t.FromScript == h.script {
			return unknownClass("transfer", t.From, t.FromScript)
		}
		if err := h.add(t.To, n); err != nil {
			return err
		}
	}
	for _, class := range s.NewClasses {
		if err := h.add(class, &spec.ObjectNamespace{ID: spec.NewID(), AccountID: v.AccountID, CreatedOn: h.now}); err != nil {
			return err
		}
	}
	for _, class := range s.NewSQLiteClasses {
		if err := h.add(class, &spec.ObjectNamespace{ID: spec.NewID(), AccountID: v.AccountID, CreatedOn: h.now, SQLite: true}); err != nil {
			return err
		}
	}
	return nil
}

// add gives a namespace to a class that has none yet.
func (h *homes) add(class string, n *spec.ObjectNamespace) error {
	if class == "" {
		return invalid("migrations", "A migration names a class with an empty name.")
	}
	if h.own[class] != nil {
		return fault.New(fault.Invalid, "Cannot apply new-class migration to class '%s' that is already depended on by existing Durable Objects.", class).WithCode(codeClassExists).At("migrations")
	}
	c := *n
	c.Script, c.Class = h.script, class
	h.own[class] = &c
	h.fresh[class] = true
	return nil
}

func unknownClass(verb, class, script string) error {
	return invalid("migrations", "Cannot %s class '%s': the script %s has no Durable Objects of that class.", verb, class, script)
}

// checkGone refuses to delete what something still uses.
func (h *homes) checkGone(v *spec.WorkerVersion) error {
	for _, n := range h.gone {
		if h.own[n.Class] == nil && exports(v, n.Class) {
			return fault.New(fault.Invalid, "Cannot apply --delete-class migration to class '%s' that the script still exports; remove the class from the code.", n.Class).WithCode(codeClassNotReady).At("migrations")
		}
		for _, b := range v.Bindings {
			if b.Type == "durable_object_namespace" && b.ScriptName == "" && b.ClassName == n.Class && h.own[n.Class] == nil {
				return fault.New(fault.Invalid, "Cannot apply --delete-class migration to class '%s' without also removing the binding that references it.", n.Class).WithCode(codeClassNotReady).At("migrations")
			}
		}
		if users := usersOf(h.cur.all, func(o *spec.WorkerVersion, b *spec.WorkerBinding) bool {
			return o.Script != h.script && b.Type == "durable_object_namespace" && b.NamespaceID == n.ID
		}); len(users) > 0 {
			return fault.New(fault.Invalid, "Cannot apply --delete-class migration to class '%s': the scripts %s have bindings to it; remove those first.", n.Class, strings.Join(scriptsOf(users), ", ")).WithCode(codeClassNotReady).At("migrations")
		}
	}
	return nil
}

// resolve gives the bindings of a version the namespaces they mean.
func (h *homes) resolve(v *spec.WorkerVersion) error {
	for i := range v.Bindings {
		b := &v.Bindings[i]
		if b.Type != "durable_object_namespace" {
			continue
		}
		n := h.own[b.ClassName]
		if b.ScriptName != "" {
			if n = h.cur.all.Namespace(b.ScriptName, b.ClassName); n == nil {
				return fault.New(fault.Invalid, "Cannot create binding for class '%s' in script '%s', which has no Durable Objects of that class. Deploy that script, with a migration for the class, first.", b.ClassName, b.ScriptName).WithCode(codeClassNotReady).At("bindings")
			}
		}
		if n == nil {
			return fault.New(fault.Invalid, "Cannot create binding for class '%s' because it is not currently configured to implement Durable Objects. Did you forget to apply a durable_object migration to it?", b.ClassName).WithCode(codeClassNotReady).At("bindings")
		}
		b.NamespaceID = n.ID
	}
	return nil
}

// runs tells whether a version can be put in force: its code has every class that has objects.
func (h *homes) runs(v *spec.WorkerVersion) error {
	for _, class := range slices.Sorted(maps.Keys(h.own)) {
		if !exports(v, class) {
			return fault.New(fault.Invalid, "New version of script does not export class '%s' which is depended on by existing Durable Objects. If you want to delete these objects, apply a deleted_classes migration.", class).WithCode(codeClassMissing).At("migrations")
		}
	}
	return nil
}

// store puts what changed.
func (h *homes) store(tx product.Tx) error {
	for _, n := range h.gone {
		if err := tx.Delete(n.Key()); err != nil {
			return err
		}
	}
	for _, class := range slices.Sorted(maps.Keys(h.own)) {
		if !h.fresh[class] {
			continue
		}
		if err := tx.Put(h.own[class]); err != nil {
			return err
		}
	}
	return nil
}

// exports tells whether a version has a Durable Object class of that name.
func exports(v *spec.WorkerVersion, class string) bool {
	return slices.ContainsFunc(v.NamedHandlers, func(n spec.NamedHandler) bool { return n.Kind == "object" && n.Name == class })
}
