package dns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	mdns "github.com/miekg/dns"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// export answers with the zone as a BIND zone file.
func (s *Server) export(_ context.Context, c *product.Call) (product.Reply, error) {
	z := c.Zone
	now := s.now()
	return product.Reply{Raw: &product.Raw{
		ContentType: "text/plain; charset=utf-8",
		Header:      http.Header{"Content-Disposition": {`attachment; filename="` + z.Zone.Name + `.txt"`}},
		Write: func(_ context.Context, w io.Writer) error {
			out := bufio.NewWriter(w)
			if err := writeZone(out, z, now); err != nil {
				return err
			}
			return out.Flush()
		},
	}}, nil
}

func writeZone(w *bufio.Writer, z *spec.ZoneConfig, now time.Time) error {
	name := z.Zone.Name + "."
	compiled := &zone{name: "", config: z}
	var err error
	if compiled.name, err = wireName(z.Zone.Name); err != nil {
		return err
	}
	primary := z.Zone.Name
	if len(z.Zone.NameServers) > 0 {
		primary = z.Zone.NameServers[0]
	}
	fmt.Fprintf(w, ";;\n;; Domain:     %s\n;; Exported:   %s\n;;\n;; A TTL of 1 is automatic.\n;;\n\n", name, now.Format(time.DateTime))
	fmt.Fprintf(w, ";; SOA Record\n%s\t%d\tIN\tSOA\t%s %s. %d %d %d %d %d\n\n", name, soaTTL, mdns.Fqdn(primary),
		textName(mailbox(compiled.name)), serial(z), soaRefresh, soaRetry, soaExpire, soaMinimum)
	byType := map[string][]*spec.Record{}
	for _, r := range z.Records {
		byType[r.Type] = append(byType[r.Type], r)
	}
	for _, typ := range typeOrder {
		if len(byType[typ]) == 0 && (typ != "NS" || len(z.Zone.NameServers) == 0) {
			continue
		}
		fmt.Fprintf(w, ";; %s Records\n", typ)
		if typ == "NS" {
			for _, server := range z.Zone.NameServers {
				fmt.Fprintf(w, "%s\t%d\tIN\tNS\t%s\n", name, apexNSTTL, mdns.Fqdn(server))
			}
		}
		for _, r := range byType[typ] {
			line, err := exportLine(r)
			if err != nil {
				return fmt.Errorf("record %s: %w", r.ID, err)
			}
			fmt.Fprintln(w, line)
		}
		fmt.Fprintln(w)
	}
	return nil
}

type importView struct {
	RecsAdded          int        `json:"recs_added"`
	TotalRecordsParsed int        `json:"total_records_parsed"`
	Timing             timingView `json:"timing"`
}

type timingView struct {
	StartTime   time.Time `json:"start_time"`
	EndTime     time.Time `json:"end_time"`
	ProcessTime float64   `json:"process_time"` // seconds
}

// importFile adds the records of a BIND zone file: all of them, or none if any line is bad.
// Records that exist already are left as they are.
func (s *Server) importFile(ctx context.Context, c *product.Call) (product.Reply, error) {
	began := s.now()
	file, proxied, err := readForm(c)
	if err != nil {
		return product.Reply{}, err
	}
	lines, err := readFile(file, c.Zone.Zone.Name, proxied)
	if err != nil {
		return product.Reply{}, err
	}
	added := 0
	err = s.options.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b, err := openBook(tx, c.Zone.Zone.ID)
		if err != nil {
			return err
		}
		added, err = addLines(b, lines, began)
		return err
	})
	if err != nil {
		return product.Reply{}, err
	}
	end := s.now()
	view := importView{RecsAdded: added, TotalRecordsParsed: len(lines), Timing: timingView{began, end, end.Sub(began).Seconds()}}
	return product.Reply{Result: view}, nil
}

// readForm reads the parts "file" and "proxied" of a multipart body.
func readForm(c *product.Call) (file string, proxied bool, err error) {
	kind, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return "", false, fault.New(fault.Invalid, "Send the zone file as multipart/form-data, in a part called file.").At("file").WithCode(codeInvalid)
	}
	parts := multipart.NewReader(c.Body, params["boundary"])
	found := false
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", false, malformedForm(err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return "", false, malformedForm(err)
		}
		switch part.FormName() {
		case "file":
			file, found = string(data), true
		case "proxied":
			proxied = strings.TrimSpace(string(data)) == "true"
		}
	}
	if !found {
		return "", false, fault.New(fault.Invalid, "The form has no part called file.").At("file").WithCode(codeInvalid)
	}
	if !utf8.ValidString(file) {
		return "", false, fault.New(fault.Invalid, "The zone file is not UTF-8 text.").At("file").WithCode(codeInvalid)
	}
	return file, proxied, nil
}

// malformedForm passes on what the limit of the body says.
func malformedForm(err error) error {
	if all := fault.All(err); len(all) > 0 {
		return all[0]
	}
	return fault.Wrap(err, fault.Invalid, "The multipart form is malformed.").WithCode(codeInvalid)
}

// fileLine is a record with the line it stands on.
type fileLine struct {
	line   int
	record *spec.Record
}

// readFile reads a zone file, telling every bad line, up to maxReported.
func readFile(file, zone string, proxied bool) ([]fileLine, error) {
	r := newFileReader(zone)
	r.proxied = proxied
	var lines []fileLine
	var faults []error
	for e, err := range entries(file) {
		var record *spec.Record
		if err == nil {
			record, err = r.read(e)
		}
		switch {
		case err != nil && len(faults) == maxReported:
			return nil, errors.Join(faults...)
		case err != nil:
			faults = append(faults, badLine(e.line, err))
		case record != nil && len(lines) == MaxRecords:
			return nil, fault.New(fault.TooMuch, "The zone file has more than %d records, the limit of a zone; line %d is the first too many.", MaxRecords, e.line).At("file").WithCode(81045)
		case record != nil:
			lines = append(lines, fileLine{e.line, record})
		}
	}
	return lines, errors.Join(faults...)
}

func badLine(line int, err error) error {
	return fault.New(fault.Invalid, "Line %d: %s", line, err.Error()).At("file").WithCode(codeInvalid)
}

// addLines puts records into the book and returns how many were new.
func addLines(b *book, lines []fileLine, now time.Time) (int, error) {
	added := 0
	var faults []error
	for _, l := range lines {
		r := *l.record
		r.ID, r.ZoneID, r.CreatedOn, r.ModifiedOn = spec.NewID(), b.zone.Zone.ID, now, now
		if r.Comment != "" {
			r.CommentModifiedOn = now
		}
		if len(r.Tags) > 0 {
			r.TagsModifiedOn = now
		}
		err := finish(&r, b.zone.Zone.Name)
		if err == nil {
			err = b.put(nil, &r)
		}
		switch all := fault.All(err); {
		case err == nil:
			added++
		case len(all) > 0 && all[0].Code == 81058:
		case len(all) > 0 && all[0].Kind == fault.TooMuch:
			return 0, err
		case len(all) == 0:
			return 0, err
		case len(faults) < maxReported:
			faults = append(faults, badLine(l.line, errors.New(all[0].Message)))
		}
	}
	return added, errors.Join(faults...)
}
