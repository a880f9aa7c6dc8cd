package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// certificate is what the commands need of a custom certificate of the API.
type certificate struct {
	ID        string   `json:"id"`
	Hosts     []string `json:"hosts"`
	Issuer    string   `json:"issuer"`
	Status    string   `json:"status"`
	ExpiresOn string   `json:"expires_on"`
}

func certCommand(s *session) *cobra.Command {
	return group("cert", "List and upload edge certificates, print the local CA",
		`Every zone is served over TLS at once: the node's local CA signs for what has no certificate of its
own. Upload one that you have, or start the node with --acme-directory to get certificates by itself.`,
		certList(s), certUpload(s), certCA(s))
}

func certList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:     "list ZONE",
		Short:   "List the uploaded certificates of a zone",
		Example: "  selvage cert list example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			certs, err := list[certificate](cmd.Context(), c, "/zones/"+z.ID+"/custom_certificates", nil)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), certs)
			}
			if len(certs) == 0 {
				fmt.Fprintf(cmd.OutOrStdout(), "%s has no uploaded certificates; it is served with what ACME or the local CA gives.\n", z.Name)
				return nil
			}
			t := table{head: []string{"HOSTS", "ISSUER", "STATUS", "EXPIRES", "ID"}}
			for _, k := range certs {
				t.add(strings.Join(k.Hosts, ","), k.Issuer, k.Status, k.ExpiresOn, k.ID)
			}
			t.print(cmd.OutOrStdout())
			return nil
		},
	}
}

func certUpload(s *session) *cobra.Command {
	var chain, key string
	c := &cobra.Command{
		Use:     "upload ZONE --cert FILE --key FILE",
		Short:   "Upload a certificate with its key",
		Example: "  selvage cert upload example.com --cert fullchain.pem --key privkey.pem",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			certPEM, err := os.ReadFile(chain)
			if err != nil {
				return err
			}
			keyPEM, err := os.ReadFile(key)
			if err != nil {
				return err
			}
			c, err := s.connect()
			if err != nil {
				return err
			}
			z, err := c.findZone(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var made certificate
			e, err := c.call(cmd.Context(), "POST", "/zones/"+z.ID+"/custom_certificates",
				map[string]string{"certificate": string(certPEM), "private_key": string(keyPEM), "bundle_method": "force"}, &made)
			if err != nil {
				return err
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), e.Result)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Uploaded a certificate for %s, good until %s.\n", strings.Join(made.Hosts, ", "), made.ExpiresOn)
			return nil
		},
	}
	c.Flags().StringVar(&chain, "cert", "", "PEM file of the certificate and its chain, leaf first")
	c.Flags().StringVar(&key, "key", "", "PEM file of the private key")
	c.MarkFlagRequired("cert")
	c.MarkFlagRequired("key")
	return c
}

func certCA(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "ca",
		Short: "Print the root certificate of the node's local CA",
		Example: `  selvage cert ca > selvage-ca.pem
  curl --cacert selvage-ca.pem https://demo.localhost:8443/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := ReadNodeFile(s.data)
			if err != nil {
				return fmt.Errorf("the local CA is kept in a node's data directory; name it with --data DIR (%w)", err)
			}
			if s.json {
				return printJSON(cmd.OutOrStdout(), map[string]string{"ca_file": n.CAFile})
			}
			f, err := os.Open(n.CAFile)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(cmd.OutOrStdout(), f)
			return err
		},
	}
}
