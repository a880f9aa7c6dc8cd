package spec_test

import (
	"strings"
	"testing"

	"selvage/foundation/fault"
	"selvage/spec"
)

func TestDatabaseValidate(t *testing.T) {
	tests := []struct {
		field string // at fault; "" means valid
		d     spec.Database
	}{
		{"", spec.Database{Name: "orders"}},
		{"", spec.Database{Name: "my shop_2.test-db", LocationHint: "weur", Jurisdiction: "eu", Replication: "auto"}},
		{"name", spec.Database{}},
		{"name", spec.Database{Name: strings.Repeat("a", 256)}},
		{"name", spec.Database{Name: "../other"}},
		{"name", spec.Database{Name: "a/b"}},
		{"name", spec.Database{Name: "-rf"}},
		{"name", spec.Database{Name: spec.NewUUID()}},
		{"name", spec.Database{Name: strings.ToUpper(spec.NewUUID())}},
		{"primary_location_hint", spec.Database{Name: "a", LocationHint: "mars"}},
		{"jurisdiction", spec.Database{Name: "a", Jurisdiction: "mars"}},
		{"read_replication.mode", spec.Database{Name: "a", Replication: "on"}},
	}
	for _, tt := range tests {
		err := tt.d.Validate()
		if tt.field == "" && err != nil {
			t.Errorf("Validate(%+v) = %v", tt.d, err)
		}
		if tt.field != "" && (len(fault.All(err)) != 1 || fault.All(err)[0].Field != tt.field) {
			t.Errorf("Validate(%+v) = %v, want a fault of %s", tt.d, err, tt.field)
		}
	}
}

func TestUUID(t *testing.T) {
	id := spec.NewUUID()
	if !spec.IsUUID(id) || id[14] != '4' || id == spec.NewUUID() {
		t.Errorf("NewUUID() = %q", id)
	}
	for _, bad := range []string{"", strings.ToUpper(id), id[:35], id + "0", strings.ReplaceAll(id, "-", "0"), "../" + id[3:]} {
		if spec.IsUUID(bad) && bad != id {
			t.Errorf("IsUUID(%q) = true", bad)
		}
	}
}
