package s3

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"

	"selvage/spec"
)

const day = 24 * 3600 // seconds

// lifecycleConfiguration is a bucket's lifecycle in S3's XML.
type lifecycleConfiguration struct {
	XMLName xml.Name   `xml:"LifecycleConfiguration"`
	Rules   []lifeRule `xml:"Rule"`
}

type lifeRule struct {
	ID     string      `xml:"ID"`
	Status string      `xml:"Status"`
	Prefix *string     `xml:"Prefix"` // of the older form, without a filter
	Filter *lifeFilter `xml:"Filter"`

	Expiration *struct {
		Days         string `xml:"Days"`
		Date         string `xml:"Date"`
		DeleteMarker string `xml:"ExpiredObjectDeleteMarker"`
	} `xml:"Expiration"`
	Transitions []struct {
		Days  string `xml:"Days"`
		Date  string `xml:"Date"`
		Class string `xml:"StorageClass"`
	} `xml:"Transition"`
	Abort *struct {
		Days string `xml:"DaysAfterInitiation"`
	} `xml:"AbortIncompleteMultipartUpload"`

	OldTransitions []struct{} `xml:"NoncurrentVersionTransition"`
	OldExpiration  *struct{}  `xml:"NoncurrentVersionExpiration"`
}

type lifeFilter struct {
	Prefix  string    `xml:"Prefix"`
	Tag     *struct{} `xml:"Tag"`
	Greater *struct{} `xml:"ObjectSizeGreaterThan"`
	Less    *struct{} `xml:"ObjectSizeLessThan"`
	And     *struct {
		Prefix  string     `xml:"Prefix"`
		Tags    []struct{} `xml:"Tag"`
		Greater *struct{}  `xml:"ObjectSizeGreaterThan"`
		Less    *struct{}  `xml:"ObjectSizeLessThan"`
	} `xml:"And"`
}

func (x *request) putLifecycle() error {
	data, err := x.readAll(maxLifecycleXML)
	if err != nil {
		return err
	}
	var in lifecycleConfiguration
	if refusal := parseXML(data, "LifecycleConfiguration", &in); refusal != nil {
		return refusal
	}
	if len(in.Rules) == 0 || len(in.Rules) > 1000 {
		return malformedXML()
	}
	rules, seen := make([]spec.LifecycleRule, len(in.Rules)), map[string]bool{}
	for i := range in.Rules {
		r := &in.Rules[i]
		if r.ID == "" {
			r.ID = spec.NewID()
		}
		if len(r.ID) > 255 || seen[r.ID] {
			return invalidArgument("Rule ID must be unique. Found same ID for one or more rules, or one of more than 255 characters")
		}
		seen[r.ID] = true
		var refusal *Error
		if rules[i], refusal = r.rule(); refusal != nil {
			return refusal
		}
	}
	return x.edit(http.StatusOK, func(b *spec.Bucket) { b.Lifecycle = rules })
}

func (x *request) deleteLifecycle() error {
	return x.edit(http.StatusNoContent, func(b *spec.Bucket) { b.Lifecycle = nil })
}

// rule makes the noun's rule of one in XML.
func (r *lifeRule) rule() (out spec.LifecycleRule, refusal *Error) {
	out.ID = r.ID
	switch r.Status {
	case "Enabled":
		out.Enabled = true
	case "Disabled":
	default:
		return out, malformedXML()
	}
	if len(r.OldTransitions) > 0 || r.OldExpiration != nil {
		return out, notImplemented("Lifecycle rules for noncurrent versions")
	}
	if out.Conditions.Prefix, refusal = r.prefix(); refusal != nil {
		return out, refusal
	}
	if e := r.Expiration; e != nil {
		if e.DeleteMarker != "" {
			return out, notImplemented("Lifecycle rules for delete markers")
		}
		c, refusal := condition(e.Days, e.Date, 1)
		if refusal != nil {
			return out, refusal
		}
		out.Delete = &spec.LifecycleTransition{Condition: c}
	}
	for _, t := range r.Transitions {
		if t.Class != "STANDARD_IA" {
			return out, invalidArgument("The storage class of a transition must be STANDARD_IA, not '%s'.", t.Class)
		}
		c, refusal := condition(t.Days, t.Date, 0)
		if refusal != nil {
			return out, refusal
		}
		out.Classes = append(out.Classes, spec.ClassTransition{Condition: c, StorageClass: spec.ClassInfrequentAccess})
	}
	if r.Abort != nil {
		c, refusal := condition(r.Abort.Days, "", 1)
		if refusal != nil {
			return out, refusal
		}
		out.AbortUploads = &spec.LifecycleTransition{Condition: c}
	}
	if out.Delete == nil && out.AbortUploads == nil && len(out.Classes) == 0 {
		return out, invalidRequest("At least one action needs to be specified in a rule.")
	}
	return out, nil
}

// prefix reads which objects the rule is about.
func (r *lifeRule) prefix() (string, *Error) {
	f := r.Filter
	switch {
	case f == nil && r.Prefix == nil, f != nil && r.Prefix != nil:
		return "", malformedXML()
	case f == nil:
		return *r.Prefix, nil
	case f.Tag != nil || f.And != nil && len(f.And.Tags) > 0:
		return "", notImplemented("Lifecycle filters by tag")
	case f.Greater != nil || f.Less != nil || f.And != nil && (f.And.Greater != nil || f.And.Less != nil):
		return "", notImplemented("Lifecycle filters by size")
	case f.And != nil:
		return f.And.Prefix, nil
	}
	return f.Prefix, nil
}

// condition reads when something is done: after at least so many days, or at a date, which is midnight
// in UTC.
func condition(days, date string, least int64) (c spec.RuleCondition, refusal *Error) {
	if (days == "") == (date == "") {
		return c, malformedXML()
	}
	if days != "" {
		n, err := strconv.ParseInt(strings.TrimSpace(days), 10, 32)
		if err != nil || n < least || n > 36500 {
			return c, invalidArgument("'Days' of a lifecycle action must be a whole number from %d to 36500.", least)
		}
		return spec.AfterAge(n * day), nil
	}
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		if at, err = time.Parse(time.DateOnly, date); err != nil {
			return c, malformedXML()
		}
	}
	if at = at.UTC(); at.Truncate(day*time.Second) != at {
		return c, invalidArgument("'Date' must be at midnight GMT")
	}
	return spec.RuleCondition{Type: "Date", Date: at}, nil
}

func (x *request) showLifecycle() error {
	if len(x.found.Lifecycle) == 0 {
		return refuse(http.StatusNotFound, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist.")
	}
	d := newDocument("LifecycleConfiguration")
	for i := range x.found.Lifecycle {
		r := &x.found.Lifecycle[i]
		d.start("Rule")
		d.text("ID", r.ID)
		d.start("Filter")
		d.text("Prefix", r.Conditions.Prefix)
		d.end()
		status := "Disabled"
		if r.Enabled {
			status = "Enabled"
		}
		d.text("Status", status)
		if r.Delete != nil {
			d.start("Expiration")
			writeCondition(d, &r.Delete.Condition)
			d.end()
		}
		for _, t := range r.Classes {
			d.start("Transition")
			writeCondition(d, &t.Condition)
			d.text("StorageClass", className(t.StorageClass))
			d.end()
		}
		if r.AbortUploads != nil {
			d.start("AbortIncompleteMultipartUpload")
			d.number("DaysAfterInitiation", days(r.AbortUploads.Condition.Age()))
			d.end()
		}
		d.end()
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// days are whole days for S3, which knows no less: an age that was set elsewhere in seconds is rounded up.
func days(seconds int64) int64 { return (seconds + day - 1) / day }

func writeCondition(d *document, c *spec.RuleCondition) {
	if c.Type == "Date" {
		d.text("Date", c.Date.UTC().Format(time.RFC3339))
		return
	}
	d.number("Days", days(c.Age()))
}
