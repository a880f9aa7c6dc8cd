package outbound

import "context"

// Subrequest says whose fetch() a request is that goes down the pipeline. The phase that runs
// scripts has to heed it.
//
// Which of the requests under way in a child a fetch belongs to cannot be told, so neither can the
// zone that ran the script. The rule is therefore by script: in a zone of which a route leads to
// the caller, its requests meet no routes, only custom domains of other scripts, and go on to
// the zone's origin, through the cache: as requests of a Worker to its own zone do at Cloudflare.
// In other zones, also of the same account, routes and domains run as for anybody, save the
// caller's own script.
type Subrequest struct {
	Account string
	Script  string
	Version string
	Depth   int // scripts in line, as far as known: 1 for the fetch of a script that a client called
}

type subrequestKey struct{}

// With returns a context that says a request is s.
func With(ctx context.Context, s Subrequest) context.Context {
	return context.WithValue(ctx, subrequestKey{}, s)
}

// From returns whose subrequest a request is; ok is false for a client's.
func From(ctx context.Context) (s Subrequest, ok bool) {
	s, ok = ctx.Value(subrequestKey{}).(Subrequest)
	return s, ok
}

// Runs tells whether the subrequest may run a script of its own account that a route (domain is
// false) or a custom domain leads to. own says that a route of the zone leads to the caller.
func (s Subrequest) Runs(script string, domain, own bool) bool {
	return script != s.Script && (domain || !own)
}
