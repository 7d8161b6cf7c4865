// Package lint holds, as tests, the rules of this repository that no common tool knows:
// which folder may import which, which calls of RxGo are left alone, what packages are
// called, what lies at the top. Each rule is a function over source text, and a test
// beside it shows that it finds what it is for.
package lint
