package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// session is what the client commands share: where the node is and how to print.
type session struct {
	api     string
	token   string
	data    string
	account string
	json    bool
	flags   []*pflag.FlagSet
}

func (s *session) addFlags(c *cobra.Command) {
	f := c.PersistentFlags()
	s.flags = append(s.flags, f)
	f.StringVar(&s.api, "api", "", "base URL of the API (default: $SELVAGE_API_URL, $CLOUDFLARE_API_BASE_URL, then node.json)")
	f.StringVar(&s.token, "token", "", "API token (default: $SELVAGE_API_TOKEN, then the node's own, or $CLOUDFLARE_API_TOKEN for an API elsewhere)")
	f.StringVar(&s.data, "data", cmp.Or(os.Getenv("SELVAGE_DATA"), s.data), "data directory of a node on this machine, to find its API")
	f.StringVar(&s.account, "account", "", "account ID (default: $CLOUDFLARE_ACCOUNT_ID, then the node's own)")
	f.BoolVar(&s.json, "json", false, "print JSON for machines")
}

// dataGiven tells whether --data was on the command line.
func (s *session) dataGiven() bool {
	return slices.ContainsFunc(s.flags, func(f *pflag.FlagSet) bool { return f.Changed("data") })
}

// client talks to one API.
type client struct {
	base    string
	token   string
	account string
	http    *http.Client
}

// unreachable is an API that does not answer.
type unreachable struct{ error }

func (e unreachable) Unwrap() error { return e.error }

// connect finds the node: by --api, by --data, by the environment, or the one in the default data
// directory. What the environment says of Cloudflare's own API counts only if it names the address
// too: a token must not go where it does not belong.
func (s *session) connect() (*client, error) {
	c := &client{
		base: s.api, token: cmp.Or(s.token, os.Getenv("SELVAGE_API_TOKEN")), account: s.account,
		http: &http.Client{Transport: &http.Transport{Proxy: nil}},
	}
	if c.base == "" && !s.dataGiven() {
		c.base = cmp.Or(os.Getenv("SELVAGE_API_URL"), os.Getenv("CLOUDFLARE_API_BASE_URL"))
	}
	n, err := ReadNodeFile(s.data)
	if c.base == "" && errors.Is(err, os.ErrNotExist) {
		return nil, unreachable{fmt.Errorf("no node runs on %s: start one with `selvage up`, or say where its API is with --api URL and --token TOKEN, or whose data it has with --data DIR", s.data)}
	}
	if c.base == "" && err != nil {
		return nil, err
	}
	if c.base != "" && !sameURL(c.base, n.API) {
		c.token = cmp.Or(c.token, os.Getenv("CLOUDFLARE_API_TOKEN"))
		c.account = cmp.Or(c.account, os.Getenv("CLOUDFLARE_ACCOUNT_ID"))
		if c.token == "" {
			return nil, fmt.Errorf("no token for %s: give one with --token or CLOUDFLARE_API_TOKEN; `selvage token create` on its node makes one", c.base)
		}
		return c, c.checkBase()
	}
	if c.token == "" {
		if c.token, err = n.Token(); err != nil {
			return nil, err
		}
	}
	c.base, c.account = n.API, cmp.Or(c.account, n.AccountID)
	return c, c.checkBase()
}

func sameURL(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }

func (c *client) checkBase() error {
	c.base = strings.TrimSuffix(c.base, "/")
	u, err := url.Parse(c.base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q is not the base URL of an API; it looks like http://127.0.0.1:4400/client/v4", c.base)
	}
	return nil
}

// envelope is the form of every answer.
type envelope struct {
	Success bool            `json:"success"`
	Errors  []apiFault      `json:"errors"`
	Result  json.RawMessage `json:"result"`
	Info    *struct {
		Page       int `json:"page"`
		TotalPages int `json:"total_pages"`
		TotalCount int `json:"total_count"`
	} `json:"result_info"`
}

type apiFault struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Source  struct {
		Pointer string `json:"pointer"`
	} `json:"source"`
	Chain []apiFault `json:"error_chain"` // what is behind it
}

// apiError is a request that the API refused.
type apiError struct {
	status int
	faults []apiFault
}

// has tells whether one of the faults has the code.
func (e apiError) has(code int) bool {
	return slices.ContainsFunc(e.faults, func(f apiFault) bool { return f.Code == code })
}

func (e apiError) Error() string {
	if len(e.faults) == 0 {
		return fmt.Sprintf("the API answered status %d without saying why", e.status)
	}
	var lines []string
	for _, f := range e.faults {
		line := fmt.Sprintf("%s (code %d)", f.Message, f.Code)
		if f.Source.Pointer != "" && !strings.Contains(f.Message, strings.Trim(f.Source.Pointer, "/")) {
			line = strings.Trim(f.Source.Pointer, "/") + ": " + line
		}
		for _, behind := range f.Chain {
			line += fmt.Sprintf(": %s (code %d)", behind.Message, behind.Code)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n         ")
}

// call makes one request with a JSON body (nil for none) and decodes the result into out (nil to
// leave it).
func (c *client) call(ctx context.Context, method, path string, body, out any) (*envelope, error) {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	res, err := c.send(ctx, method, path, "application/json", r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return decode(res, out)
}

func decode(res *http.Response, out any) (*envelope, error) {
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read the API's answer: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("%s answered status %d and something that is not the v4 API: is the base URL right?", res.Request.URL.Host, res.StatusCode)
	}
	if !e.Success {
		return nil, apiError{res.StatusCode, e.Errors}
	}
	if out == nil {
		return &e, nil
	}
	return &e, json.Unmarshal(e.Result, out)
}

// send makes one request and returns the answer as it comes. The caller closes its body.
func (c *client) send(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.http.Do(req)
	if err != nil && ctx.Err() == nil {
		return nil, unreachable{fmt.Errorf("the API at %s does not answer: is the node running? (%w)", c.base, errors.Unwrap(err))}
	}
	return res, err
}

// list fetches all pages of a listing.
func list[T any](ctx context.Context, c *client, path string, query url.Values) ([]T, error) {
	if query == nil {
		query = url.Values{}
	}
	all := []T{}
	for page := 1; ; page++ {
		query.Set("page", strconv.Itoa(page))
		query.Set("per_page", "100")
		var part []T
		e, err := c.call(ctx, "GET", path+"?"+query.Encode(), nil, &part)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
		if len(part) == 0 || e.Info == nil || page >= e.Info.TotalPages {
			return all, nil
		}
	}
}

// inAccount connects, and returns the account that the commands are about.
func (s *session) inAccount(ctx context.Context) (*client, string, error) {
	c, err := s.connect()
	if err != nil {
		return nil, "", err
	}
	account, err := c.accountID(ctx)
	return c, account, err
}

// accountID returns the account to work in.
func (c *client) accountID(ctx context.Context) (string, error) {
	if c.account != "" {
		return c.account, nil
	}
	accounts, err := list[struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}](ctx, c, "/accounts", nil)
	if err != nil {
		return "", err
	}
	if len(accounts) != 1 {
		return "", fmt.Errorf("the token can see %d accounts: name one with --account ID", len(accounts))
	}
	c.account = accounts[0].ID
	return c.account, nil
}
