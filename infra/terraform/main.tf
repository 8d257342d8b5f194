data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  prefix     = { prefix = var.store_prefix }
}

module "region" {
  source   = "./modules/region"
  for_each = var.regions

  region           = each.key
  aws_region       = each.value.aws_region
  account_id       = local.account_id
  partition        = local.partition
  bucket_prefix    = var.bucket_prefix
  store_prefix     = var.store_prefix
  namespace        = var.namespace
  oidc             = coalesce(each.value.oidc, var.oidc)
  shared           = merge(module.shared.location, local.prefix)
  control_role_arn = aws_iam_role.control.arn
}

# What belongs to no region: exported models and plans. Control workers write it, every region reads it.
module "shared" {
  source = "./modules/bucket"

  name        = "${var.bucket_prefix}-shared"
  aws_region  = var.home_region
  account_id  = local.account_id
  partition   = local.partition
  writer_arns = [aws_iam_role.control.arn]
  reader_arns = [for region in module.region : region.role_arn]
}

# Of the workers that plan releases and send regions' builds to pools. In a region's bucket they read what became of a
# build, and write records (approvals among them) and the marker of a new store, but no content.
module "control_documents" {
  source = "./modules/role_documents"

  namespace       = var.namespace
  service_account = "regiolect-control"
  oidc            = var.oidc

  writes = concat(
    [merge(module.shared.location, local.prefix, { paths = ["*"] })],
    [for region in module.region : merge(region.location, local.prefix, { paths = ["records/*", "store.json"] })]
  )
}

resource "aws_iam_role" "control" {
  name                 = "${var.bucket_prefix}-control"
  description          = "Regiolect's control workers: write the shared bucket, read the regions' and write their records."
  assume_role_policy   = module.control_documents.trust
  max_session_duration = 3600
}

resource "aws_iam_role_policy" "control" {
  name   = "stores"
  role   = aws_iam_role.control.id
  policy = module.control_documents.permissions
}
