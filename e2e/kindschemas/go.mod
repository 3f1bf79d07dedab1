// The modules in which projects publish the definitions of their kinds. Nothing is built of them and nothing requires
// them: go.sum alone says which versions, and Go refuses a download that differs from it. See e2e/harness/schemas.py.
module slicewise.io/e2e/kindschemas

go 1.26.0
