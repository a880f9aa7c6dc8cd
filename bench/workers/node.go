package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"

	"selvage/bench/rig"
)

// compatibilityDate is what wrangler writes into new projects, near enough.
const compatibilityDate = "2026-11-01"

// site is a node, an account on it and the account's subdomain for Workers.
type site struct {
	*rig.Node
	account string
	domain  string // Workers answer at NAME.domain
	user    *user
}

// startSite runs a node on cpus, with its first account.
func (b *bench) startSite(cpus string, args ...string) (*site, error) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	data := filepath.Join(b.dir, "data")
	os.Remove(filepath.Join(data, "node.json")) // of a node before; it would look ready
	n, err := rig.StartNode(cpus, data, args...)
	if err != nil {
		return nil, err
	}
	b.node = n.Program
	s, err := siteOf(n, n.AccountID)
	if err != nil {
		n.Stop()
	}
	return s, err
}

func siteOf(n *rig.Node, account string) (*site, error) {
	s := &site{Node: n, account: account, user: newUser(rig.Addr(n.HTTP))}
	sub, err := n.Call("GET", s.path("/subdomain"), nil)
	if err != nil {
		return nil, err
	}
	s.domain = fmt.Sprintf("%s.%s", sub["subdomain"], sub["domain"])
	return s, nil
}

// neighbour makes another account on the same node.
func (s *site) neighbour(name string) (*site, error) {
	made, err := s.Call("POST", "/accounts", map[string]any{"name": name})
	if err != nil {
		return nil, err
	}
	return siteOf(s.Node, made["id"].(string))
}

func (s *site) path(rest string) string { return "/accounts/" + s.account + "/workers" + rest }

func (s *site) host(name string) string { return name + "." + s.domain }

// put uploads a Worker of one module with further metadata, and so deploys it.
func (s *site) put(name, code string, more map[string]any) error {
	metadata := map[string]any{"main_module": "index.js", "compatibility_date": compatibilityDate}
	for key, value := range more {
		metadata[key] = value
	}
	head, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, part := range []struct {
		name, media string
		data        []byte
	}{{"metadata", "application/json", head}, {"index.js", "application/javascript+module", []byte(code)}} {
		header := textproto.MIMEHeader{"Content-Type": {part.media}}
		header.Set("Content-Disposition", fmt.Sprintf("form-data; name=%q; filename=%q", part.name, part.name))
		if part.name == "metadata" {
			header.Set("Content-Disposition", `form-data; name="metadata"`)
		}
		p, err := w.CreatePart(header)
		if err != nil {
			return err
		}
		p.Write(part.data)
	}
	w.Close()
	_, err = s.Send("PUT", s.path("/scripts/"+name), w.FormDataContentType(), &body)
	return err
}

// deploy puts a Worker and has it answer at its name.
func (s *site) deploy(name, code string, more map[string]any) error {
	if err := s.put(name, code, more); err != nil {
		return err
	}
	_, err := s.Call("POST", s.path("/scripts/"+name+"/subdomain"), map[string]any{"enabled": true})
	return err
}

// sleep ends the children of a Worker: it is deployed and asleep then.
func (s *site) sleep(name string) error {
	_, err := s.Call("POST", "/accounts/"+s.account+"/selvage/workers/scripts/"+name+"/kill", nil)
	return err
}

// children returns the processes that the node has started.
func (s *site) children() []int { return rig.Tree(s.PID())[1:] }
