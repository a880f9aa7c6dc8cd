package main

import (
	"fmt"
	"strings"
)

// causes are what errors here come from, where it is not a fault of what is tested.
var causes = []struct{ file, text, why string }{
	{"", "gc is not ", "calls gc(), which a flag of V8 has to allow; no Worker's child has it"},
	{"", "child stopped: memory", "takes more memory than a Worker may"},
	{"connect-handler-test", "", "connects to TCP ports of the machine, which Workers may not"},
	{"importable-exports-test", "", "lists its own exports, of which one is the driver's"},
	{"fs-dir-test", "", "lists its own modules, of which one is the driver's"},
	{"util-nodejs-test", "", "looks at its stack, which begins in the driver"},
}

// reason says why a test of a file does not pass here.
func (o *outcome) reason(test string) string {
	for _, c := range causes {
		if strings.Contains(o.name, c.file) && strings.Contains(test+" "+o.ours[test], c.text) {
			return c.why
		}
	}
	first, _, _ := strings.Cut(o.ours[test], "\n")
	return cell(fmt.Sprintf("%.160s", first))
}
