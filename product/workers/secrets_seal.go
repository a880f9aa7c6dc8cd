package workers

import (
	"encoding/base64"
	"encoding/json"
	"slices"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/spec"
)

// maxVariable is the size of a secret or variable, in bytes.
const maxVariable = 5 << 10

// maxKeyJWK is that of a key, which may be an RSA one of 4096 bits.
const maxKey = 16 << 10

// secretContext says whose secret a sealed value is. Neither accounts nor scripts have a slash in
// their names.
func secretContext(accountID, script, name string) []byte {
	return []byte(accountID + "/" + script + "/" + name)
}

// secretBinding seals the value of a secret as it comes in.
func (w *Workers) secretBinding(accountID, script string, in *input) (spec.WorkerBinding, error) {
	b := spec.WorkerBinding{Name: in.name, Type: in.kind}
	if in.kind == "secret_key" {
		return w.keyBinding(accountID, script, in)
	}
	if in.fields["text"] == nil {
		return b, invalid(in.at+".text", "binding %s of type secret_text must have a valid `text` specified", in.name)
	}
	text, err := in.text("text")
	if err != nil {
		return b, err
	}
	if len(text) > maxVariable {
		return b, tooLong(in, len(text))
	}
	b.Sealed = w.o.Seal.Seal([]byte(text), secretContext(accountID, script, in.name))
	return b, nil
}

// publicKeyFields is what may be shown of a secret_key.
type publicKeyFields struct {
	Algorithm json.RawMessage `json:"algorithm,omitempty"`
	Format    string          `json:"format,omitempty"`
	Usages    []string        `json:"usages,omitempty"`
}

var (
	keyFormats = []string{"raw", "pkcs8", "spki", "jwk"}
	keyUsages  = []string{"encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"}
)

func (w *Workers) keyBinding(accountID, script string, in *input) (spec.WorkerBinding, error) {
	b := spec.WorkerBinding{Name: in.name, Type: in.kind}
	key := isolate.CryptoKey{Algorithm: in.fields["algorithm"]}
	var err error
	if key.Format, err = in.needed("format"); err != nil {
		return b, err
	}
	if !slices.Contains(keyFormats, key.Format) {
		return b, invalid(in.at+".format", "The format of the key %s is %.40q; known are raw, pkcs8, spki and jwk.", in.name, key.Format)
	}
	if err := json.Unmarshal(in.fields["usages"], &key.Usages); err != nil || len(key.Usages) == 0 {
		return b, invalid(in.at+".usages", "The key %s needs usages, a list such as [\"sign\",\"verify\"].", in.name)
	}
	for _, u := range key.Usages {
		if !slices.Contains(keyUsages, u) {
			return b, invalid(in.at+".usages", "The key %s has the usage %.40q, which Web Crypto does not know.", in.name, u)
		}
	}
	if key.Format == "jwk" {
		key.Data = in.fields["key_jwk"]
	} else {
		text, err := in.text("key_base64")
		if err != nil {
			return b, err
		}
		if key.Data, err = base64.StdEncoding.DecodeString(text); err != nil {
			return b, invalid(in.at+".key_base64", "The key_base64 of %s is not Base64.", in.name)
		}
	}
	if len(key.Data) == 0 || len(key.Data) > maxKey {
		return b, invalid(in.at, "The key %s has %d bytes; it needs 1 to %d, in key_jwk for the format jwk and in key_base64 for the others.", in.name, len(key.Data), maxKey)
	}
	plain, err := json.Marshal(key)
	if err != nil {
		return b, err
	}
	b.Sealed = w.o.Seal.Seal(plain, secretContext(accountID, script, in.name))
	b.Extra, err = json.Marshal(publicKeyFields{key.Algorithm, key.Format, key.Usages})
	return b, err
}

// renamed returns a binding under another name; a secret's seal is bound to the name.
func (w *Workers) renamed(accountID, script string, b spec.WorkerBinding, name string) (spec.WorkerBinding, error) {
	old := b.Name
	b.Name = name
	if b.Sealed == nil || old == name {
		return b, nil
	}
	plain, err := w.o.Seal.Open(b.Sealed, secretContext(accountID, script, old))
	if err != nil {
		return b, fault.Wrap(err, fault.Internal, "The secret %s cannot be read.", old)
	}
	b.Sealed = w.o.Seal.Seal(plain, secretContext(accountID, script, name))
	return b, nil
}

// isSecret tells whether a binding's value is never shown.
func isSecret(b *spec.WorkerBinding) bool { return b.Type == "secret_text" || b.Type == "secret_key" }
