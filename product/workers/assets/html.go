package assets

import "strings"

// intent is what a path leads to: a file, or a path that the client is redirected to.
type intent struct {
	file     *File // nil if there is none
	status   int   // 200, or 404 for a 404.html
	redirect string
	moved    bool // redirect counts
}

func (in *intent) found() bool { return in.file != nil || in.moved }

// attempt is one step of finding the file for a path. With an empty dest it is: if file is there,
// it answers. Otherwise: if file is there and would answer at dest, redirect to dest. It returns
// true when the search is over.
type attempt func(file, dest string) bool

// here is the destination of a file that answers at the path asked for.
const here = "\x00"

// resolve finds what a decoded path leads to. With straight, redirects are left out.
func (s *site) resolve(path string, miss NotFoundHandling, straight bool) intent {
	var in intent
	try := func(file, dest string) bool {
		f := s.files[file]
		if f == nil {
			return false
		}
		if dest == here {
			in.file, in.status = f, 200
			return true
		}
		if straight || s.files[dest] != nil {
			return false
		}
		// What answers there has to be this file, not another one or a 404 page.
		if to := s.resolve(dest, miss, true); to.file == nil || to.file.Hash != f.Hash {
			return false
		}
		in.redirect, in.moved = dest, true
		return true
	}
	done := false
	switch s.html {
	case HTMLNone:
		done = try(path, here)
	case HTMLForce:
		done = forceSlash(path, try)
	case HTMLDrop:
		done = dropSlash(path, try)
	default:
		done = autoSlash(path, try)
	}
	if !done {
		in.file, in.status = s.fallback(path, miss)
	}
	return in
}

// autoSlash has /foo.html answer at /foo and /foo/index.html at /foo/.
func autoSlash(path string, try attempt) bool {
	return autoSuffix(path, try) ||
		try(path, here) ||
		try(path+".html", here) ||
		try(path+"/index.html", path+"/")
}

func autoSuffix(path string, try attempt) bool {
	if dir, ok := strings.CutSuffix(path, "/index"); ok {
		return try(path, here) || try(path+".html", dir+"/") || try(dir+".html", dir)
	}
	if dir, ok := strings.CutSuffix(path, "/index.html"); ok {
		return try(path, dir+"/") || try(dir+".html", dir)
	}
	if dir, ok := strings.CutSuffix(path, "/"); ok {
		return try(path+"index.html", here) || try(dir+".html", dir)
	}
	if name, ok := strings.CutSuffix(path, ".html"); ok {
		return try(path, name) || try(name+"/index.html", name+"/")
	}
	return false
}

// forceSlash has both /foo.html and /foo/index.html answer at /foo/.
func forceSlash(path string, try attempt) bool {
	return forceSuffix(path, try) ||
		try(path, here) ||
		try(path+".html", path+"/") ||
		try(path+"/index.html", path+"/")
}

func forceSuffix(path string, try attempt) bool {
	if dir, ok := strings.CutSuffix(path, "/index"); ok {
		return try(path, here) || try(path+".html", dir+"/") || try(dir+".html", dir+"/")
	}
	if dir, ok := strings.CutSuffix(path, "/index.html"); ok {
		return try(path, dir+"/") || try(dir+".html", dir+"/")
	}
	if dir, ok := strings.CutSuffix(path, "/"); ok {
		return try(path+"index.html", here) || try(dir+".html", here)
	}
	if name, ok := strings.CutSuffix(path, ".html"); ok {
		return try(path, name+"/") || try(path, here) || try(name+"/index.html", name+"/")
	}
	return false
}

// dropSlash has both /foo.html and /foo/index.html answer at /foo.
func dropSlash(path string, try attempt) bool {
	return dropSuffix(path, try) ||
		try(path, here) ||
		try(path+".html", here) ||
		try(path+"/index.html", here)
}

func dropSuffix(path string, try attempt) bool {
	switch path {
	case "/index":
		return try(path, here) || try("/index.html", "/")
	case "/index.html":
		return try(path, "/")
	case "/":
		return try("/index.html", here)
	}
	if dir, ok := strings.CutSuffix(path, "/index"); ok {
		return try(path, here) || try(dir+".html", dir) || try(path+".html", dir)
	}
	if dir, ok := strings.CutSuffix(path, "/index.html"); ok {
		return try(path, dir) || try(path, here) || try(dir+".html", dir)
	}
	if dir, ok := strings.CutSuffix(path, "/"); ok {
		return try(dir+".html", dir) || try(dir+"/index.html", dir)
	}
	if name, ok := strings.CutSuffix(path, ".html"); ok {
		return try(path, name) || try(name+"/index.html", name)
	}
	return false
}

// fallback is what answers where no file is.
func (s *site) fallback(path string, miss NotFoundHandling) (*File, int) {
	switch miss {
	case NotFoundSPA:
		return s.files["/index.html"], 200
	case NotFoundPage:
		for path != "" {
			path = path[:max(strings.LastIndexByte(path, '/'), 0)]
			if f := s.files[path+"/404.html"]; f != nil {
				return f, 404
			}
		}
	}
	return nil, 0
}
