package config

import "slices"

// The numbers below are the places that Cap'n Proto's layout rules give to the fields of
// workerd.capnp: data in words, bits or 16-bit units, pointers by index. Fields that we do not use
// and that come last are left out: readers take their defaults.

// Kinds of services.
const (
	serviceWorker   = 1
	serviceNetwork  = 2
	serviceExternal = 3
	serviceDisk     = 4
)

// Encode returns the binary form, as `workerd serve --binary` reads it from a file or from stdin.
func (c *Config) Encode() []byte {
	m := newMessage(c.size())
	root := m.root(1, 6)
	for i, n := range root.children(0, len(c.Services), 1, 2) {
		encodeService(n, &c.Services[i])
	}
	for i, n := range root.children(1, len(c.Sockets), 1, 5) {
		s := &c.Sockets[i]
		n.text(0, s.Name)
		n.text(1, s.Address)
		encodeHTTP(n.child(2, 1, 5), s.HTTP)
		encodeDesignator(n, 4, s.Service)
	}
	root.texts(2, c.V8Flags)
	for _, n := range root.children(3, min(1, len(c.Modules)), 0, 1) {
		for i, mod := range n.children(0, len(c.Modules), 1, 2) {
			mod.text(0, c.Modules[i].Name)
			mod.setBit(0, c.Modules[i].Internal)
			mod.text(1, c.Modules[i].Source)
		}
	}
	return m.frame()
}

// size is about how large the message gets.
func (c *Config) size() int {
	n := 16 << 10
	for _, s := range c.Services {
		if s.Worker == nil {
			continue
		}
		n += len(s.Worker.Script)
		for _, m := range s.Worker.Modules {
			n += len(m.Body) + len(m.Name) + 64
		}
		for _, b := range s.Worker.Bindings {
			n += len(b.Data) + len(b.Text) + len(b.Name) + 128
		}
	}
	return n
}

func encodeService(n node, s *Service) {
	n.text(0, s.Name)
	switch {
	case s.Worker != nil:
		n.set16(0, serviceWorker)
		encodeWorker(n.child(1, 1, 12), s.Worker)
	case s.Network != nil:
		n.set16(0, serviceNetwork)
		encodeNetwork(n.child(1, 0, 3), s.Network)
	case s.External != nil:
		n.set16(0, serviceExternal)
		e := n.child(1, 1, 4)
		e.text(0, s.External.Address)
		encodeHTTP(e.child(1, 1, 5), s.External.HTTP)
	case s.Disk != nil:
		n.set16(0, serviceDisk)
		d := n.child(1, 1, 1)
		d.text(0, s.Disk.Path)
		d.setBit(0, s.Disk.Writable)
	}
}

func encodeNetwork(n node, w *Network) {
	if len(w.Allow) > 0 {
		n.texts(0, w.Allow)
		return
	}
	// A null list would mean the default, which is the whole Internet.
	n.list(0, n.m.alloc(0), listPointers, 0)
}

func encodeHTTP(n node, h HTTP) {
	if h.Proxy {
		n.set16(0, 1)
	}
	n.text(0, h.ProtoHeader)
	n.text(1, h.CFHeader)
	encodeHeaders(n, 2, h.InjectRequest)
	encodeHeaders(n, 3, h.InjectResponse)
	n.text(4, h.RPCHost)
}

func encodeHeaders(n node, slot int, headers []Header) {
	for i, f := range n.children(slot, len(headers), 0, 2) {
		f.text(0, headers[i].Name)
		if !headers[i].Remove {
			f.text(1, headers[i].Value)
		}
	}
}

func encodeDesignator(n node, slot int, d Designator) {
	if d.Name == "" {
		return
	}
	encodeDesignatorAt(n.child(slot, 1, 3), d)
}

func encodeDesignatorAt(s node, d Designator) {
	s.text(0, d.Name)
	s.text(1, d.Entrypoint)
	if d.Props != "" {
		s.set16(0, 1)
		s.text(2, d.Props)
	}
}

func encodeWorker(n node, w *Worker) {
	if w.Script != nil {
		n.set16(0, 1)
		n.textBytes(0, w.Script)
	}
	for i, m := range n.children(0, len(w.Modules), 1, 3) {
		m.text(0, w.Modules[i].Name)
		m.set16(0, uint16(w.Modules[i].Type))
		switch w.Modules[i].Type {
		case Data, Wasm:
			m.bytes(1, w.Modules[i].Body)
		default:
			m.textBytes(1, w.Modules[i].Body)
		}
	}
	n.text(1, w.CompatibilityDate)
	n.texts(2, w.CompatibilityFlags)
	for i, b := range n.children(3, len(w.Bindings), 1, 6) {
		encodeBinding(b, &w.Bindings[i])
	}
	encodeDesignator(n, 4, w.Outbound)
	for i, o := range n.children(5, len(w.Namespaces), 1, 3) {
		o.text(0, w.Namespaces[i].Class)
		o.text(1, w.Namespaces[i].UniqueKey)
		o.setBit(17, w.Namespaces[i].SQL)
	}
	encodeDesignator(n, 7, w.Cache)
	if w.Storage != "" {
		n.set16(1, 2)
		n.text(8, w.Storage)
	}
	for i, t := range n.children(10, len(w.Tails), 1, 3) {
		encodeDesignatorAt(t, w.Tails[i])
	}
}

func encodeBinding(n node, b *Binding) {
	n.text(0, b.Name)
	n.set16(0, uint16(b.Type))
	switch b.Type {
	case BindText, BindJSON:
		n.text(1, b.Text)
	case BindData, BindWasm:
		n.bytes(1, b.Data)
	case BindKey:
		encodeKey(n.child(1, 1, 3), b.Key)
	case BindObjects:
		o := n.child(1, 0, 2)
		o.text(0, b.Class)
		o.text(1, b.Of)
	case BindWrapped:
		w := n.child(1, 0, 3)
		w.text(0, b.Module)
		for i, inner := range w.children(2, len(b.Inner), 1, 6) {
			encodeBinding(inner, &b.Inner[i])
		}
	case BindHyperdrive:
		encodeDesignator(n, 1, b.Service)
		for i, text := range []string{b.Login.Database, b.Login.User, b.Login.Password, b.Login.Scheme} {
			n.text(2+i, text)
		}
	default:
		encodeDesignator(n, 1, b.Service)
	}
}

// keyUsages are the names of the schema's enum, in its order.
var keyUsages = []string{"encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"}

func encodeKey(n node, k *Key) {
	n.set16(0, uint16(k.Format))
	if k.Format == KeyRaw {
		n.bytes(0, k.Data)
	} else {
		n.textBytes(0, k.Data)
	}
	n.set16(1, 1)
	n.text(1, k.Algorithm)
	var usages []uint16
	for _, u := range k.Usages {
		if i := slices.Index(keyUsages, u); i >= 0 {
			usages = append(usages, uint16(i))
		}
	}
	n.enums(2, usages)
}
