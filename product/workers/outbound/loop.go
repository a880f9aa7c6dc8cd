package outbound

import (
	"net/http"
	"strconv"
	"strings"
	"sync"

	"selvage/edge"
)

const (
	// maxDepth is how many scripts may call each other in line.
	maxDepth = 16

	// maxHops is how many names CDN-Loop may have before a request goes out.
	maxHops = 32

	// maxNested is how many requests of an account's scripts to this node's own sites may be under
	// way at once before nestedPerRequest counts.
	maxNested = 256

	// nestedPerRequest is how many of them there may be for each request that came from outside.
	nestedPerRequest = 32

	// maxBlind is the most where nobody knows how many came from outside.
	maxBlind = 4096
)

// loop is the parameter that counts scripts in CDN-Loop (RFC 8586).
const loopParam = "; loops="

// depthOf returns how many scripts a request has been through as CDN-Loop tells, and how many
// names the field has. A script that makes its request anew, without the fields of the one it
// answers, hides it: nesting is for those.
func depthOf(h *edge.Header, id string) (depth, hops int) {
	for _, f := range h.Fields() {
		if !strings.EqualFold(f.Name, "CDN-Loop") {
			continue
		}
		for part := range strings.SplitSeq(f.Value, ",") {
			hops++
			name, params, _ := strings.Cut(strings.TrimSpace(part), loopParam)
			if name != id {
				continue
			}
			n, err := strconv.Atoi(params)
			if err != nil || n < 1 {
				n = 1
			}
			depth = max(depth, min(n, maxDepth))
		}
	}
	return depth, hops
}

// setDepth makes this node's entry in CDN-Loop say depth.
func setDepth(h *edge.Header, id string, depth int) {
	var others []string
	for part := range strings.SplitSeq(h.Joined("CDN-Loop"), ",") {
		part = strings.TrimSpace(part)
		if name, _, _ := strings.Cut(part, ";"); part != "" && strings.TrimSpace(name) != id {
			others = append(others, part)
		}
	}
	h.Set("CDN-Loop", strings.Join(append(others, id+loopParam+strconv.Itoa(depth)), ", "))
}

// looped is Cloudflare's error 1019.
func looped(detail string) *edge.Failure {
	return &edge.Failure{Status: http.StatusLoopDetected, Code: 1019, Reason: "worker_loop", Detail: detail}
}

// nesting counts an account's requests to this node's own sites and scripts. In a circle of
// scripts each turn waits for the next, so they add up, whatever the scripts do to headers.
type nesting struct {
	mu      sync.Mutex     // guards running
	running map[string]int // by account
}

// enter counts a request; false if there are too many for what came from outside. running tells how
// many requests are under way in the account's units, nested ones too; nil if that is not known.
func (n *nesting) enter(account string, running func(account string) int) bool {
	n.mu.Lock()
	now := n.running[account] + 1
	n.running[account] = now
	n.mu.Unlock()
	if now <= maxNested {
		return true
	}
	most := maxBlind
	if running != nil {
		most = maxNested + nestedPerRequest*max(running(account)-now, 1)
	}
	if now <= most {
		return true
	}
	n.leave(account)
	return false
}

func (n *nesting) leave(account string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running[account]--; n.running[account] == 0 {
		delete(n.running, account)
	}
}
