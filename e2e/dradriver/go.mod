// NVIDIA's DRA driver, for the DeviceClasses and definitions of its chart. Nothing is built of it: go.sum alone says which
// version, and Go refuses a download that differs from it. See e2e/harness/dra_driver.py.
module slicewise.io/e2e/dradriver

go 1.26.0
