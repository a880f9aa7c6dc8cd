package workers

import (
	"maps"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/spec"
)

// user is a script that uses another one, by a binding of its newest version or of one in force.
type user struct {
	version *spec.WorkerVersion
	binding *spec.WorkerBinding
}

// usersOf returns the bindings that match, by script and name. Versions that are neither in force nor
// the newest hold nobody up.
func usersOf(all *spec.AccountWorkers, match func(*spec.WorkerVersion, *spec.WorkerBinding) bool) []user {
	var users []user
	for _, name := range slices.Sorted(maps.Keys(all.Scripts)) {
		s := all.Scripts[name]
		ids := []string{s.Latest}
		for _, share := range s.Deployment.Versions {
			ids = append(ids, share.VersionID)
		}
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			v := all.Versions[id]
			if v == nil {
				continue
			}
			for i := range v.Bindings {
				if match(v, &v.Bindings[i]) {
					users = append(users, user{v, &v.Bindings[i]})
				}
			}
		}
	}
	return users
}

// scriptsOf returns the names of the users' scripts, each once.
func scriptsOf(users []user) []string {
	var names []string
	for _, u := range users {
		names = append(names, u.version.Script)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// callersOf returns the bindings of other scripts to a script, and the scripts that have it as their
// tail consumer.
func callersOf(all *spec.AccountWorkers, script string) (services, objects []user, tails []string) {
	services = usersOf(all, func(v *spec.WorkerVersion, b *spec.WorkerBinding) bool {
		return v.Script != script && b.Type == "service" && b.Service == script
	})
	objects = usersOf(all, func(v *spec.WorkerVersion, b *spec.WorkerBinding) bool {
		if v.Script == script || b.Type != "durable_object_namespace" {
			return false
		}
		n := all.Namespaces[b.NamespaceID]
		return n != nil && n.Script == script
	})
	for _, name := range slices.Sorted(maps.Keys(all.Scripts)) {
		if name != script && slices.ContainsFunc(all.Scripts[name].TailConsumers, func(t spec.TailConsumer) bool { return t.Service == script }) {
			tails = append(tails, name)
		}
	}
	return services, objects, tails
}

// checkReferences refuses a version whose service bindings name what does not exist.
func checkReferences(cur base, v *spec.WorkerVersion) error {
	var faults []error
	for _, b := range v.Bindings {
		if b.Type == "service" {
			faults = append(faults, checkService(cur, v, &b))
		}
	}
	return joined(faults)
}

func checkService(cur base, v *spec.WorkerVersion, b *spec.WorkerBinding) error {
	callees := []*spec.WorkerVersion{v}
	if b.Service != v.Script {
		s := cur.all.Scripts[b.Service]
		if s == nil {
			return fault.New(fault.Invalid, "Service binding '%s' references Worker '%s' which was not found. Deploy that Worker first.", b.Name, b.Service).WithCode(codeServiceMissing).At("bindings")
		}
		callees = callees[:0]
		for _, share := range s.Deployment.Versions {
			if c := cur.all.Versions[share.VersionID]; c != nil {
				callees = append(callees, c)
			}
		}
	}
	if b.Entrypoint == "" || b.Entrypoint == "default" {
		return nil
	}
	for _, c := range callees {
		if !slices.ContainsFunc(c.NamedHandlers, func(n spec.NamedHandler) bool { return n.Name == b.Entrypoint }) {
			return invalid("bindings", "Service binding '%s' references the entrypoint '%s', which Worker '%s' does not export.", b.Name, b.Entrypoint, b.Service)
		}
	}
	return nil
}

// checkTails refuses tail consumers that do not exist.
func checkTails(all *spec.AccountWorkers, script string, tails []spec.TailConsumer) error {
	for _, t := range tails {
		if t.Service != script && all.Scripts[t.Service] == nil {
			return invalid("tail_consumers", "The tail consumer %.80q is no Worker of this account. Deploy it first.", t.Service)
		}
	}
	return nil
}

// checkUnused refuses to delete a script that others depend on.
func checkUnused(all *spec.AccountWorkers, script string) error {
	services, objects, tails := callersOf(all, script)
	var uses []string
	if len(services) > 0 {
		uses = append(uses, "service bindings of "+strings.Join(scriptsOf(services), ", "))
	}
	if len(objects) > 0 {
		uses = append(uses, "Durable Object bindings of "+strings.Join(scriptsOf(objects), ", "))
	}
	if len(tails) > 0 {
		uses = append(uses, "tail consumers of "+strings.Join(tails, ", "))
	}
	if len(uses) == 0 {
		return nil
	}
	return fault.New(fault.Conflict, "The Worker %s is still used by the %s. Remove those, or delete it with ?force=true.", script, strings.Join(uses, ", and the "))
}
