package workers

import (
	"testing"
)

// wrangler names modules that are not scripts "./HASH-NAME"; what leads out of the script is refused.
func TestModuleNames(t *testing.T) {
	for name, good := range map[string]bool{
		"words.txt": true, "lib/words.txt": true, "./352da08e-words.txt": true,
		"../words.txt": false, "lib/../words.txt": false, "/words.txt": false, "a//b.txt": false, "././a.txt": false,
	} {
		d := &draft{meta: &metadata{MainModule: "index.js"}}
		err := d.readModules([]part{{name: "index.js", media: "application/javascript+module"}, {name: name, media: "text/plain"}})
		if (err == nil) != good {
			t.Errorf("module name %q: %v, want it taken: %v", name, err, good)
		}
	}
}
