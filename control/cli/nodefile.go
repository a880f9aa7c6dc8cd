package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// NodeFileName is the file in a data directory that says where its node is.
const NodeFileName = "node.json"

// NodeFile tells clients on the same machine where a node is and how to talk to it. It is written
// when the node is ready.
type NodeFile struct {
	API   string `json:"api"`          // base URL of the v4 API
	HTTP  string `json:"http"`         // URL of the plain listener
	HTTPS string `json:"https"`        // URL of the TLS listener
	DNS   string `json:"dns"`          // host:port, UDP and TCP
	Admin string `json:"admin"`        // URL of metrics and health
	S3    string `json:"s3,omitempty"` // URL of the S3 API
	// URLs without user and database of the pools' ports.
	HyperdrivePostgres string `json:"hyperdrive_postgres,omitempty"`
	HyperdriveMySQL    string `json:"hyperdrive_mysql,omitempty"`
	AccountID          string `json:"account_id"`
	TokenFile          string `json:"token_file"` // holds an API token with all rights of the account
	CAFile             string `json:"ca_file"`    // root of the local CA, PEM
	PID                int    `json:"pid"`
	Version            string `json:"version"`
}

// ReadNodeFile reads dir/node.json.
func ReadNodeFile(dir string) (NodeFile, error) {
	var n NodeFile
	data, err := os.ReadFile(filepath.Join(dir, NodeFileName))
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(data, &n); err != nil {
		return n, fmt.Errorf("%s: %w", filepath.Join(dir, NodeFileName), err)
	}
	return n, nil
}

// Token reads the API token.
func (n NodeFile) Token() (string, error) {
	data, err := os.ReadFile(n.TokenFile)
	if err != nil {
		return "", fmt.Errorf("read the node's API token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
