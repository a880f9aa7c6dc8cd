// Package config writes the configuration of workerd: Go structs that mirror its schema
// (workerd.capnp) as far as we use it, and an encoder that turns them into the binary form that
// workerd reads. It is pure: no files, no processes.
package config

// Config is a whole configuration.
type Config struct {
	Services []Service
	Sockets  []Socket
	V8Flags  []string
	Modules  []Extension // of our own, for wrapped bindings
}

// Service is one named service. Exactly one of the pointers is set.
type Service struct {
	Name     string
	Worker   *Worker
	Network  *Network
	External *External
	Disk     *Disk
}

// Network is a way out by host name. An empty Allow allows nothing.
type Network struct{ Allow []string }

// External is a server at a fixed address, such as "unix:/run/s0.sock".
type External struct {
	Address string
	HTTP    HTTP
}

// Disk is a directory.
type Disk struct {
	Path     string
	Writable bool
}

// Socket is an address that a service answers at.
type Socket struct {
	Name    string
	Address string // empty: it comes with the command line
	HTTP    HTTP
	Service Designator
}

// HTTP says how HTTP is spoken on a socket or to an external server.
type HTTP struct {
	Proxy          bool   // requests name the whole URL and may lack Host
	ProtoHeader    string // field that carries the URL's scheme, without Proxy
	CFHeader       string // field that carries request.cf
	RPCHost        string // CONNECT to this host starts an RPC session
	InjectRequest  []Header
	InjectResponse []Header
}

// Header is a field that is set on each message, or removed from it.
type Header struct {
	Name   string
	Value  string
	Remove bool
}

// Designator points to a service. The zero value points nowhere.
type Designator struct {
	Name       string
	Entrypoint string
	Props      string // JSON; empty for none
}

// Worker is a script and what it is bound to.
type Worker struct {
	Modules            []Module // main module first; empty for a service-worker script
	Script             []byte   // in addEventListener syntax
	CompatibilityDate  string
	CompatibilityFlags []string
	Bindings           []Binding
	Outbound           Designator // fetch() and connect(); nowhere means the service "internet"
	Cache              Designator
	Namespaces         []Namespace
	Storage            string // Disk service that holds the objects; empty if there are none
	Tails              []Designator
}

// ModuleType is a kind of module; the values are those of the schema.
type ModuleType uint16

// The kinds of modules.
const (
	ESModule ModuleType = 0
	CommonJS ModuleType = 1
	Text     ModuleType = 2
	Data     ModuleType = 3
	Wasm     ModuleType = 4
	JSON     ModuleType = 5
	Python   ModuleType = 7
)

// Module is one file of a Worker.
type Module struct {
	Name string
	Type ModuleType
	Body []byte
}

// Namespace is a Durable Object class with its storage.
type Namespace struct {
	Class     string
	UniqueKey string
	SQL       bool
}

// BindingType is a kind of binding; the values are those of the schema.
type BindingType uint16

// The kinds of bindings.
const (
	BindText      BindingType = 2
	BindData      BindingType = 3
	BindJSON      BindingType = 4
	BindWasm      BindingType = 5
	BindKey       BindingType = 6
	BindService   BindingType = 7
	BindObjects   BindingType = 8
	BindKV        BindingType = 9
	BindR2        BindingType = 10
	BindWrapped   BindingType = 12
	BindQueue     BindingType = 13
	BindAnalytics BindingType = 15

	BindHyperdrive BindingType = 16
)

// Binding is one name of the script's env. Type says which other fields count.
type Binding struct {
	Name    string
	Type    BindingType
	Text    string     // BindText, BindJSON
	Data    []byte     // BindData, BindWasm
	Service Designator // BindService, BindKV, BindR2, BindQueue, BindAnalytics, BindHyperdrive
	Class   string     // BindObjects
	Of      string     // BindObjects: service that exports the class; empty is the same one
	Module  string     // BindWrapped: one of Config.Modules
	Inner   []Binding  // BindWrapped
	Key     *Key       // BindKey
	Login   *Login     // BindHyperdrive
}

// Login is what a script reads of a BindHyperdrive.
type Login struct {
	Scheme, Database, User, Password string
}

// KeyFormat says what Key.Data holds; the values are those of the schema.
type KeyFormat uint16

// The formats of keys.
const (
	KeyRaw   KeyFormat = 0
	KeyPKCS8 KeyFormat = 3 // PEM
	KeySPKI  KeyFormat = 4 // PEM
	KeyJWK   KeyFormat = 5
)

// Key is a key for WebCrypto that the script cannot read.
type Key struct {
	Format    KeyFormat
	Data      []byte
	Algorithm string // JSON
	Usages    []string
}

// Extension is a module of our own.
type Extension struct {
	Name     string
	Internal bool // scripts cannot import it
	Source   string
}
