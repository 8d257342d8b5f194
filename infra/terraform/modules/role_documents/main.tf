# The policies of a worker's role, made of the variables alone, so that they can be read without any provider.
locals {
  written = [for store in var.writes : {
    bucket_arn = store.bucket_arn
    key_arn    = store.key_arn
    aws_region = store.aws_region
    prefix     = store.prefix
  }]
  every = concat(local.written, var.reads)

  uses = [
    { sid = "Encrypt", stores = local.written, actions = ["kms:Decrypt", "kms:GenerateDataKey"] },
    { sid = "Decrypt", stores = var.reads, actions = ["kms:Decrypt"] },
  ]
}

output "trust" {
  description = "Who may take the role: one service account of one cluster."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "ServiceAccount"
      Effect    = "Allow"
      Principal = { Federated = var.oidc.provider_arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = {
          "${var.oidc.issuer}:sub" = "system:serviceaccount:${var.namespace}:${var.service_account}"
          "${var.oidc.issuer}:aud" = "sts.amazonaws.com"
        }
      }
    }]
  })
}

output "permissions" {
  description = "Reading and writing under the prefixes, with the buckets' own keys. Nothing is ever deleted."
  value = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid      = "Locate"
          Effect   = "Allow"
          Action   = ["s3:GetBucketLocation"]
          Resource = local.every[*].bucket_arn
        },
        {
          # Where the request names no prefix too: or S3 calls an object that is missing forbidden.
          Sid       = "List"
          Effect    = "Allow"
          Action    = ["s3:ListBucket"]
          Resource  = local.every[*].bucket_arn
          Condition = { StringLikeIfExists = { "s3:prefix" = distinct([for store in local.every : "${store.prefix}/*"]) } }
        },
        {
          Sid      = "Read"
          Effect   = "Allow"
          Action   = ["s3:GetObject"]
          Resource = [for store in local.every : "${store.bucket_arn}/${store.prefix}/*"]
        },
        {
          Sid    = "Write"
          Effect = "Allow"
          Action = ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"]
          Resource = flatten([
            for store in var.writes : [for path in store.paths : "${store.bucket_arn}/${store.prefix}/${path}"]
          ])
        },
      ],
      [
        for use in local.uses : {
          Sid       = use.sid
          Effect    = "Allow"
          Action    = use.actions
          Resource  = use.stores[*].key_arn
          Condition = { StringEquals = { "kms:ViaService" = distinct([for store in use.stores : "s3.${store.aws_region}.amazonaws.com"]) } }
        } if length(use.stores) > 0
      ]
    )
  })
}
